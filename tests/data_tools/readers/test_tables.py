"""Parquet files, and data sets like those on the hub in local directories."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pytest
from pyarrow import parquet

from data_tools.corpus.inputs import Input
from data_tools.readers import InputReader, identity_of, parts_of, pinned, size_of
from data_tools.readers.source import MAX_DOCUMENT_CHARACTERS

Read = Callable[..., Any]
TEXTS = ["one\r\n\n two ", None, "dréi 😀", " \n", ""]
DOCUMENTS = [["one", " two "], ["dréi 😀"]]


@pytest.fixture(scope="module", autouse=True)
def offline() -> Any:
    """Keep `datasets` from asking the hub."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def _parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


@pytest.mark.parametrize("type", ["string", "large_string", "string_view", "dictionary"])
def test_texts_of_every_string_type_are_read(tmp_path: Path, read_documents: Read, type: str) -> None:
    texts = pyarrow.array(TEXTS)
    texts = texts.dictionary_encode() if type == "dictionary" else texts.cast(type)
    path = _parquet(tmp_path / "a.parquet", {"id": [1, 2, 3, 4, 5], "a.b": texts})
    assert read_documents("parquet", path, columns=("a.b",)) == (DOCUMENTS, {"empty": 3})


def test_long_texts_are_cut_into_documents(tmp_path: Path, read_documents: Read) -> None:
    line = "x" * (MAX_DOCUMENT_CHARACTERS // 2)
    path = _parquet(tmp_path / "a.parquet", {"text": ["\n".join([line] * 3)]})
    assert read_documents("parquet", path, columns=("text",)) == ([[line, line], [line]], {})


def test_pairs_in_one_or_two_columns_are_read(tmp_path: Path, read_pairs: Read) -> None:
    sides = {"s": ["eins", "", None], "t": ["one", "two", "three"]}
    expected = ([("eins", "one"), ("", "two")], {"missing_side": 1})
    path = _parquet(tmp_path / "two.parquet", sides)
    assert read_pairs("parquet", path, columns=("s", "t")) == expected
    values = [{"en": "one", "de": "eins"}, {"en": "two", "de": ""}, None]
    path = _parquet(tmp_path / "one.parquet", {"translation": values})
    assert read_pairs("parquet", path, columns=("translation",)) == expected


@pytest.mark.parametrize(
    ("columns", "wanted", "languages", "message"),
    [
        ({"txt": ["a"], "id": [1]}, ("text",), ("de",), "no column 'text'; it has txt, id"),
        ({"text": [1]}, ("text",), ("de",), "column 'text' is int64, expected text"),
        ({"text": [["a"]]}, ("text",), ("de",), "column 'text' is list<.*>, expected text"),
        ({"t": [{"de": "a", "fr": "b"}]}, ("t",), ("de", "en"), "no 'en' in column 't'; it has de, fr"),
        ({"t": ["a"]}, ("t",), ("de", "en"), "column 't' is string, expected de, en in it"),
        ({"t": [{"de": "a", "en": 3}]}, ("t",), ("de", "en"), "column 't' is struct<.*>, expected text"),
        ({"s": ["a"]}, ("s", "t"), ("de", "en"), "no column 't'; it has s"),
    ],
)
def test_missing_columns_and_other_types_are_refused(
    tmp_path: Path, columns: dict[str, Any], wanted: tuple[str, ...], languages: tuple[str, ...], message: str
) -> None:
    path = _parquet(tmp_path / "a.parquet", columns)
    with (
        pytest.raises(ValueError, match=rf"a\.parquet: {message}"),
        InputReader(Input(languages, "parquet", (str(path),), wanted), None),
    ):
        pass


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    columns = [pyarrow.array(["a", "b"]), pyarrow.array(["c", "d"])]
    table = pyarrow.Table.from_arrays(columns, names=["text", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    item = Input(("de",), "parquet", (str(tmp_path / "a.parquet"),), ("text",))
    with pytest.raises(ValueError, match=r"a\.parquet: column 'text' exists 2 times; expected one"):
        InputReader(item, None).__enter__()


def test_languages_may_have_other_codes_in_the_file(tmp_path: Path, read_pairs: Read) -> None:
    path = _parquet(tmp_path / "a.parquet", {"t": [{"eng_Latn": "one", "deu_Latn": "eins"}]})
    found = read_pairs("parquet", path, columns=("t",), codes=("deu_Latn", "eng_Latn"))
    assert found == ([("eins", "one")], {})


def test_text_that_is_not_utf8_is_refused(tmp_path: Path, read_documents: Read) -> None:
    broken = pyarrow.array([b"Fahrr\xe4der"]).view(pyarrow.string())
    path = _parquet(tmp_path / "a.parquet", {"text": broken})
    with pytest.raises(ValueError, match=r"a\.parquet: column text is not UTF-8"):
        read_documents("parquet", path, columns=("text",))


def test_damaged_files_are_refused(tmp_path: Path, read_documents: Read) -> None:
    path = _parquet(tmp_path / "a.parquet", {"text": [f"line {i}" * 20 for i in range(2_000)]}, compression="gzip")
    content = path.read_bytes()
    for damaged, message in [
        (content[: len(content) // 2], "not a Parquet file, or cut short"),
        (b"text\n", "not a Parquet file"),
        (b"", r"is empty \(0 bytes\)"),
        (b"PK\x03\x04" + bytes(100), "a zip archive, expected Parquet; unpack it"),
        (b"\x1f\x8b\x08" + bytes(100), r"gzip-compressed, expected Parquet"),
        (content[:500] + bytes(2_000) + content[2_500:], "damaged"),
    ]:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"a\.parquet: {message}"):
            read_documents("parquet", path, columns=("text",))


@pytest.mark.parametrize("max_bytes", [300, 1_000, 4_000, 10**6])
def test_all_parts_together_are_the_file(tmp_path: Path, read_documents: Read, max_bytes: int) -> None:
    texts = [os.urandom(20).hex() for _ in range(300)]
    path = _parquet(tmp_path / "a.parquet", {"id": list(range(300)), "text": texts}, row_group_size=40)
    item = Input(("de",), "parquet", (str(path),), ("text",))
    parts = parts_of(item, max_bytes)
    assert (parts == [None]) == (size_of(item) <= max_bytes)
    found = [read_documents("parquet", path, part, columns=("text",))[0] for part in parts]
    assert [document for part in found for document in part] == [[text] for text in texts]
    if max_bytes == 4_000:
        assert sum(map(bool, found)) > 2


def test_progress_is_in_bytes_of_the_file(tmp_path: Path) -> None:
    item = Input(("de",), "parquet", (str(_parquet(tmp_path / "a", {"text": ["x"] * 2_000})),), ("text",))
    with InputReader(item, None) as reader:
        documents = reader.documents()
        next(documents)
        assert reader.num_bytes_read == size_of(item) // 2
        assert sum(1 for _ in documents) == 1_999
        assert reader.num_bytes_read == size_of(item)


def test_a_remote_file_is_read(tmp_path: Path, read_documents: Read) -> None:
    content = _parquet(tmp_path / "a.parquet", {"text": TEXTS}).read_bytes()
    fsspec.filesystem("memory").pipe("/tables/a.parquet", content)
    assert read_documents("parquet", "memory://tables/a.parquet", columns=("text",))[0] == DOCUMENTS


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three files with two rows each, whose texts name their place."""
    directory = tmp_path_factory.mktemp("dataset")
    for file in range(3):
        texts = [f"{file} {row}\n\nmore" for row in range(2)]
        _parquet(directory / f"train-{file}.parquet", {"text": texts, "id": [0, 1]})
    return directory


def test_a_data_set_is_read_by_shards(dataset: Path, read_documents: Read) -> None:
    expected = [[f"{file} {row}", "more"] for file in range(3) for row in range(2)]
    options: dict[str, Any] = {"columns": ("text",), "split": "train"}
    assert read_documents("hub", dataset, **options) == (expected, {})
    item = Input(("de",), "hub", (str(dataset),), **options)
    assert parts_of(item, 1) == [(0, 3), (1, 3), (2, 3)]
    parts = [read_documents("hub", dataset, part, **options)[0] for part in parts_of(item, 1)]
    assert parts == [expected[:2], expected[2:4], expected[4:]]
    assert size_of(item) == 0


def test_pairs_of_a_data_set_are_read(tmp_path: Path, read_pairs: Read) -> None:
    values = [{"de": "eins", "en": "one"}, {"de": None, "en": "two"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"translation": value}) + "\n" for value in values))
    found = read_pairs("hub", tmp_path, columns=("translation",), split="train")
    assert found == ([("eins", "one")], {"missing_side": 1})
    assert parts_of(Input(("de", "en"), "hub", (str(tmp_path),), ("translation",), split="train"), 1) == [None]


@pytest.mark.parametrize(
    ("fields", "part", "message"),
    [
        ({"columns": ("content",)}, None, "no column 'content'; it has text, id"),
        ({"columns": ("id",)}, None, "column 'id' is int64, expected text"),
        ({"columns": ("text",), "split": "test"}, None, "Bad split: test. Available splits: .*train"),
        ({"columns": ("text",), "config": "none"}, None, "'none' not found. Available: .*default"),
        ({"columns": ("text",)}, (1, 4), "3 shards now, but had 4 in the plan"),
    ],
)
def test_data_sets_that_cannot_be_read_are_named(
    dataset: Path, read_documents: Read, fields: dict[str, Any], part: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{dataset}, .*{message}"):
        read_documents("hub", dataset, part, **{"split": "train", **fields})


def test_a_broken_data_set_is_named(tmp_path: Path, read_documents: Read) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n{"text": \n')
    with pytest.raises(ValueError, match=f"^{tmp_path}, train: cannot be read with `datasets`"):
        read_documents("hub", tmp_path, columns=("text",), split="train")


def test_the_identity_of_a_data_set_follows_its_version(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = Input(("de",), "hub", (str(dataset),), ("text",), split="train")
    identity = identity_of(item)
    assert pinned(item) == item
    _parquet(dataset / "validation.parquet", {"text": ["more"]})
    assert identity_of(item) != identity
    (dataset / "validation.parquet").unlink()
    assert identity_of(item) == identity

    asked = []

    class Hub:
        def dataset_info(self, name: str, revision: str | None) -> Any:
            asked.append((name, revision))
            return type("Info", (), {"sha": "f" * 40})

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    commit = "0123456789" * 4
    for revision, expected in [(None, "f" * 40), ("main", "f" * 40), (commit, commit)]:
        item = Input(("de",), "hub", ("owner/name",), ("text",), config="de", split="train", revision=revision)
        assert identity_of(item) == ["owner/name", "de", "train", expected]
        assert pinned(item).revision == expected
    assert asked == [("owner/name", None)] * 2 + [("owner/name", "main")] * 2
