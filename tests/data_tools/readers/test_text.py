import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.corpus.inputs import Input
from data_tools.files.formats import COMPRESSED_SUFFIXES
from data_tools.readers import InputReader
from data_tools.readers.source import MAX_DOCUMENT_CHARACTERS

Read = Callable[..., Any]


def _file(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_blank_lines_end_documents(tmp_path: Path, read_documents: Read, line_end: str) -> None:
    lines = ["\ufeffone", " two ", " \t\u3000", "", "three\u2028four", "\u200b", "", ""]
    path = _file(tmp_path, "a.txt", line_end.join(lines))
    assert read_documents("text", path) == ([["one", " two "], ["three\u2028four", "\u200b"]], {})


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", " \r\n\n"])
def test_blank_files_have_no_documents(tmp_path: Path, read_documents: Read, text: str) -> None:
    assert read_documents("text", _file(tmp_path, "a.txt", text)) == ([], {} if text else {"empty_file": 1})


def test_long_documents_are_cut_between_lines(tmp_path: Path, read_documents: Read) -> None:
    limit = MAX_DOCUMENT_CHARACTERS
    lines = ["ж" * (limit // 4)] * 9 + ["x" * (2 * limit), "end"]
    path = _file(tmp_path, "a.txt", "\n".join(lines) + "\n\nnext")
    documents, _ = read_documents("text", path)
    assert [list(map(len, document)) for document in documents] == [
        [limit // 4] * 9,  # no line ends a passage, so it goes on to twice the limit
        [2 * limit, 3],
        [4],
    ]


def test_progress_is_in_bytes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"one\n\ntwo\n" * 1000))
    with InputReader(Input(("de",), "text", (str(path),)), None) as reader:
        assert sum(1 for _ in reader.documents()) == 1001
        assert reader.num_bytes_read == path.stat().st_size
    assert reader.num_bytes_read == path.stat().st_size


@pytest.mark.parametrize("suffix", ["", *COMPRESSED_SUFFIXES])
def test_a_file_of_no_bytes_is_counted(tmp_path: Path, read_documents: Read, read_pairs: Read, suffix: str) -> None:
    for name in ("a.txt", "b.txt", "a.tsv", "a.csv", "a.jsonl"):
        (tmp_path / f"{name}{suffix}").touch()
    counted = ([], {"empty_file": 1})
    assert read_documents("text", tmp_path / f"a.txt{suffix}") == counted
    assert read_documents("jsonl", tmp_path / f"a.jsonl{suffix}", columns=("text",)) == counted
    for format in ("tsv", "csv"):
        assert read_pairs(format, tmp_path / f"a.{format}{suffix}", columns=(1, 2)) == counted
    assert read_pairs("moses", tmp_path / f"a.txt{suffix}", tmp_path / f"b.txt{suffix}") == counted
    with pytest.raises(ValueError, match=rf"a\.txt{suffix} has 0 lines, .*p\.en has 1"):
        read_pairs("moses", tmp_path / f"a.txt{suffix}", _file(tmp_path, "p.en", "one\n"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n', "JSON, expected plain text"),
        ("a.txt", '{"text": "x"}\n', "JSON, expected plain text"),
        ("a.de", "<!doctype html>\n", "HTML, expected plain text"),
        ("a.de", "one\ntwo\0three\n", "line 2 holds a NUL byte"),
    ],
)
def test_files_that_are_not_text_are_refused(
    tmp_path: Path, read_documents: Read, read_pairs: Read, name: str, content: str, message: str
) -> None:
    path = _file(tmp_path, name, content)
    with pytest.raises(ValueError, match=rf"{name}: {message}"):
        read_documents("text", path)
    for paths in ([path, _file(tmp_path, "b.en", "x\n")], [tmp_path / "b.en", path]):
        with pytest.raises(ValueError, match=rf"{name}: {message}"):
            read_pairs("moses", *paths)


def test_advice_for_json_depends_on_the_reader(tmp_path: Path, read_documents: Read, read_pairs: Read) -> None:
    path = _file(tmp_path, "a.de", '{"text": "x"}\n')
    with pytest.raises(ValueError, match=r"let its name end in \.jsonl"):
        read_documents("text", path)
    with pytest.raises(ValueError, match="extract its text$"):  # .jsonl would not do here
        read_pairs("moses", path, path)


def test_lines_of_two_files_are_pairs(tmp_path: Path, read_pairs: Read) -> None:
    source = _file(tmp_path, "p.de", "eins\r\n\r\ndrei\r\n")
    target = tmp_path / "p.en.gz"
    target.write_bytes(gzip.compress(b"one\ntwo\nthree"))
    assert read_pairs("moses", source, target) == ([("eins", "one"), ("", "two"), ("drei", "three")], {})


@pytest.mark.parametrize(("num_source", "num_target"), [(5, 3), (3, 5), (0, 1), (1, 0)])
def test_files_of_different_lengths_are_refused_with_both_counts(
    tmp_path: Path, read_pairs: Read, num_source: int, num_target: int
) -> None:
    source, target = _file(tmp_path, "p.de", "a\n" * num_source), _file(tmp_path, "p.en", "b\n" * num_target)
    with pytest.raises(ValueError, match=rf"p\.de has {num_source} lines, .*p\.en has {num_target}: "):
        read_pairs("moses", source, target)


def test_a_missing_file_is_named(tmp_path: Path, read_pairs: Read) -> None:
    with pytest.raises(FileNotFoundError):
        read_pairs("moses", _file(tmp_path, "p.de", "a\n"), tmp_path / "p.en")
