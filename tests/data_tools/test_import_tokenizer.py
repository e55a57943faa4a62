import gzip
import io
import os
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from data_tools.import_tokenizer import in_xlm_r_order, main
from data_tools.tokenizers.files import write_tokenizer
from data_tools.tokenizers.sentence_piece import PieceEncoder
from data_tools.tokenizers.unigram_training import train_model

MODULE = "data_tools.import_tokenizer"
Import = Callable[..., Path]
IDLE = ["madeupword0000", "[de_DE]", "▁[ru_RU]", "madeupword0001"]


@pytest.fixture
def import_tokenizer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Import:
    """A function (model, arguments…) that imports a tokenizer in this process; its directory."""

    def run(model: Path, *arguments: str | Path) -> Path:
        output = tmp_path / "imported"
        monkeypatch.setattr(sys, "argv", list(map(str, [MODULE, model, "--output", output, "--overwrite", *arguments])))
        main()
        return output

    return run


def write_dictionary(path: Path, entries: list[str]) -> Path:
    path.write_text("".join(f"{entry} {1000 - i}\n" for i, entry in enumerate(entries)), encoding="utf-8")
    return path


def fairseq_ids(
    processor: sentencepiece.SentencePieceProcessor, entries: list[str], lines: list[str]
) -> list[list[int]]:
    """The ids of lines in fairseq: SentencePiece's pieces, looked up in a dictionary whose first entry has id 4."""
    index = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3} | {entry: i for i, entry in enumerate(entries, start=4)}
    return [[index.get(piece, 3) for piece in pieces] for pieces in processor.encode_as_pieces(lines)]


def load(directory: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(directory / "sentencepiece.bpe.model"))


def pieces_of(directory: Path) -> list[str]:
    processor = load(directory)
    return [processor.id_to_piece(i) for i in range(3, processor.get_piece_size())]


def shuffled_with_idle(directory: Path) -> list[str]:
    """All pieces in another order, with entries between them that the model does not know."""
    entries = pieces_of(directory)
    Random(1).shuffle(entries)
    for i, entry in enumerate(IDLE):
        entries.insert(40 * i, entry)
    return entries


def model_of(directory: Path) -> bytes:
    return (directory / "sentencepiece.bpe.model").read_bytes()


def lists(encoder: PieceEncoder, lines: list[str]) -> list[list[int]]:
    return [ids.tolist() for ids in encoder.encode_lines(lines)]


@pytest.fixture(scope="module")
def source_dir(tmp_path_factory: pytest.TempPathFactory, sentences: dict[str, list[str]]) -> Path:
    """A toy tokenizer that knows the letters of all idle entries."""
    directory = tmp_path_factory.mktemp("source")
    lines = [*(line for group in sentences.values() for line in group), *["01 [de_DE] up word [ru_RU]"] * 50]
    write_tokenizer(train_model(iter(lines), 350, 1.0), directory, [])
    return directory


@pytest.fixture(scope="module")
def imported_dir(source_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy tokenizer with the pieces in another order and idle entries between them."""
    directory = tmp_path_factory.mktemp("imported")
    imported = in_xlm_r_order(model_of(source_dir), shuffled_with_idle(source_dir), source_dir)
    write_tokenizer(imported.model, directory, [])
    return directory


def test_a_model_in_this_order_is_kept(
    tokenizer_dir: Path, import_tokenizer: Import, capsys: pytest.CaptureFixture[str]
) -> None:
    output = import_tokenizer(tokenizer_dir)
    model = tokenizer_dir / "sentencepiece.bpe.model"
    assert capsys.readouterr().out == f"{output}: 300 ids, 295 pieces of {model} in the order of the model\n"
    for path in tokenizer_dir.iterdir():
        assert path.read_bytes() == (output / path.name).read_bytes(), path.name


def test_a_missing_model_is_one_line(tmp_path: Path, run_module: Callable, assert_one_line_error: Callable) -> None:
    process = run_module(MODULE, tmp_path / "none.model", "--output", tmp_path / "out")
    assert_one_line_error(process, "none.model: No such file or directory")
    assert not list(tmp_path.iterdir())


def test_only_its_own_output_is_replaced(
    source_dir: Path, import_tokenizer: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = import_tokenizer(source_dir)
    before = model_of(imported)
    import_tokenizer(source_dir)
    with pytest.raises(ValueError, match=r"the input .*imported.* is in it; choose another --output"):
        import_tokenizer(imported)
    (imported / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"imported: holds tokenizer_config\.json, changed since"):
        import_tokenizer(source_dir)
    assert model_of(imported) == before
    monkeypatch.setattr(sys, "argv", [MODULE, str(source_dir), "--output", str(source_dir), "--overwrite"])
    with pytest.raises(ValueError, match=r"is in it"):
        main()


def test_ids_follow_the_dictionary(
    tmp_path: Path,
    source_dir: Path,
    sentences: dict[str, list[str]],
    import_tokenizer: Import,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entries = shuffled_with_idle(source_dir)
    output = import_tokenizer(source_dir, "--dictionary", write_dictionary(tmp_path / "dict.txt", entries))
    printed = capsys.readouterr().out
    assert "354 ids, 345 pieces" in printed and "dict.txt, 4 entries that no text becomes (madeupword0000, " in printed
    encoder, tokenizer = PieceEncoder(output), AutoTokenizer.from_pretrained(output)
    lines = [*(line for group in sentences.values() for line in group), "漢字 🙂", " two  spaces "]
    expected = fairseq_ids(load(source_dir), entries, lines)
    assert lists(encoder, lines) == tokenizer(lines, add_special_tokens=False)["input_ids"] == expected
    # In both, every entry has its id by name, including idle ones and their neighbours.
    assert tokenizer.convert_tokens_to_ids([*entries, "<mask>"]) == list(range(4, 4 + len(entries) + 1))
    assert [load(output).id_to_piece(i) for i in range(3, 3 + len(entries))] == entries
    assert len(tokenizer) == encoder.vocab_size == 4 + len(entries) + 1


@settings(max_examples=100)
@given(parts=st.lists(st.sampled_from([*IDLE, *"▁ [0]x_", "up", "word", "[de_"])))
def test_no_text_becomes_an_idle_entry(imported_dir: Path, source_dir: Path, parts: list[str]) -> None:
    entries = shuffled_with_idle(source_dir)
    idle = {entries.index(entry) + 4 for entry in IDLE}
    lines = ["".join(parts)]
    (found,) = lists(PieceEncoder(imported_dir), lines)
    assert not idle & set(found)
    assert [found] == fairseq_ids(load(source_dir), entries, lines)


def test_no_text_becomes_an_idle_entry_in_transformers(imported_dir: Path, source_dir: Path) -> None:
    lines = [*IDLE, " ".join(IDLE), "x".join(IDLE), "xmadeupword0000x [de_DE][de_DE] madeupword 0000"]
    found = AutoTokenizer.from_pretrained(imported_dir)(lines, add_special_tokens=False)["input_ids"]
    assert found == lists(PieceEncoder(imported_dir), lines)


def test_pieces_that_are_not_in_the_dictionary_are_dropped(
    tmp_path: Path, source_dir: Path, sentences: dict[str, list[str]]
) -> None:
    pieces = pieces_of(source_dir)
    entries = [piece for i, piece in enumerate(pieces) if len(piece) == 1 or i % 5]
    model = model_of(source_dir)
    imported = in_xlm_r_order(model, entries, source_dir)
    assert imported.num_dropped == len(pieces) - len(entries) > 30
    encoder = write_tokenizer(imported.model, tmp_path, [])
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    lines = [line for group in sentences.values() for line in group]
    found = lists(encoder, lines)
    # Without the dropped pieces some cuts are equally probable, such as o|zo and oz|o.
    for ids, others in zip(found, tokenizer(lines, add_special_tokens=False)["input_ids"], strict=True):
        assert sorted(ids) == sorted(others)
    assert not any(3 in ids for ids in found), "cut into pieces that remain, not made unknown"
    expected = fairseq_ids(load(source_dir), entries, lines)
    complete = [i for i, ids in enumerate(expected) if 3 not in ids]
    assert len(complete) > 10
    assert [found[i] for i in complete] == [expected[i] for i in complete]
    assert [encoder.decode(ids) for ids in found] == lines


def test_entries_for_unknown_characters_become_pieces(tmp_path: Path, source_dir: Path) -> None:
    """fairseq-preprocess counts unknown characters as SentencePiece spells them, and finds them so again."""
    entries = [*pieces_of(source_dir), "漢", "漢字", "🙂"]
    model = model_of(source_dir)
    imported = in_xlm_r_order(model, entries, source_dir)
    assert imported.unknown == ["漢", "漢字", "🙂"] and not imported.idle
    encoder = write_tokenizer(imported.model, tmp_path, [])
    lines = ["漢", "漢字", "am 漢 Fluss 🙂", "字"]
    expected = fairseq_ids(load(source_dir), entries, lines)
    assert expected[0][-1] == 349 and expected[1][-1] == 350 and expected[3][-1] == 3
    assert lists(encoder, lines) == expected
    assert AutoTokenizer.from_pretrained(tmp_path)(lines, add_special_tokens=False)["input_ids"] == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("▁a 9\n▁b\n", "line 2: expected `piece count`, found '▁b'"),
        ("x 9\ny 8\n▁liest 7\n", "only 1 of 3 entries of the dictionary are pieces of this model"),
        ("", "only 0 of 0 entries of the dictionary"),
    ],
)
def test_a_dictionary_of_another_model_is_refused(
    tmp_path: Path, tokenizer_dir: Path, import_tokenizer: Import, content: str, message: str
) -> None:
    path = tmp_path / "dict.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        import_tokenizer(tokenizer_dir, "--dictionary", path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["dict.txt"]


@pytest.mark.parametrize("ending", ["", "<mask> 1\n"])
def test_mask_is_last_whether_the_dictionary_has_it_or_not(
    tmp_path: Path, source_dir: Path, import_tokenizer: Import, ending: str
) -> None:
    entries = pieces_of(source_dir)
    path = write_dictionary(tmp_path / "dict.txt", entries)
    path.write_text(path.read_text(encoding="utf-8") + ending, encoding="utf-8")
    tokenizer = AutoTokenizer.from_pretrained(import_tokenizer(source_dir, "--dictionary", path))
    assert len(tokenizer) == 4 + len(entries) + 1
    assert tokenizer.mask_token_id == 4 + len(entries)


def trained(sentences: dict[str, list[str]], **options: Any) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences["en"]),
        model_writer=model,
        minloglevel=2,
        **{"vocab_size": 120, "character_coverage": 1.0, **options},
    )
    return model.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},  # T5
        {"bos_id": 0, "pad_id": 1, "eos_id": 2, "unk_id": 3},  # fairseq's own order, in the model
        {"bos_piece": "[CLS]", "eos_piece": "[SEP]", "pad_id": 3, "pad_piece": "[PAD]", "unk_piece": "[UNK]"},
        {"control_symbols": ["<mask>", "farmertag"]},
        {"normalization_rule_name": "identity"},
    ],
)
def test_models_in_another_order_are_reordered(
    tmp_path: Path, sentences: dict[str, list[str]], import_tokenizer: Import, options: dict[str, Any]
) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(trained(sentences, **options))
    source = sentencepiece.SentencePieceProcessor(model_file=str(path))
    output = import_tokenizer(tmp_path)
    pieces = [source.id_to_piece(i) for i in range(len(source)) if not (source.is_control(i) or source.is_unknown(i))]
    entries = ["farmertag", *pieces] if "control_symbols" in options else pieces
    encoder, tokenizer = PieceEncoder(output), AutoTokenizer.from_pretrained(output)
    assert encoder.vocab_size == len(entries) + 5
    lines = [*sentences["en"], "der alte Bauer: 漢字 farmertag"]
    expected = fairseq_ids(source, entries, lines)
    assert lists(encoder, lines) == tokenizer(lines, add_special_tokens=False)["input_ids"] == expected
    assert tokenizer("a").input_ids[0] == 0 and tokenizer("a").input_ids[-1] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_type": "bpe"}, "a model of type BPE, expected UNIGRAM; transformers' XLM-R tokenizer cannot express"),
        ({"model_type": "char", "vocab_size": 40}, "a model of type CHAR"),
        ({"byte_fallback": True, "vocab_size": 350}, "unknown characters become bytes, expected <unk>"),
        ({"user_defined_symbols": ["<sep>"]}, "the piece '<sep>' is a user-defined symbol"),
        ({"treat_whitespace_as_suffix": True}, "▁ follows words"),
        ({"add_dummy_prefix": False}, "white space is kept as it is, expected one ▁ before each word"),
        ({"remove_extra_whitespaces": False}, "white space is kept as it is"),
        ({"split_by_whitespace": False}, "the piece '.*▁.*' spans several words"),
    ],
)
def test_models_of_another_kind_are_refused(
    tmp_path: Path, sentences: dict[str, list[str]], import_tokenizer: Import, options: dict[str, Any], message: str
) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(trained(sentences, **options))
    with pytest.raises(ValueError, match=message) as error_info:
        import_tokenizer(path)
    assert str(error_info.value).startswith(f"{path}: ")


def test_a_tokenizer_json_alone_is_imported(
    tmp_path: Path, imported_dir: Path, sentences: dict[str, list[str]], import_tokenizer: Import
) -> None:
    """transformers 5 saves tokenizers, such as XLM-R's, without a SentencePiece model."""
    AutoTokenizer.from_pretrained(imported_dir).save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "sentencepiece.bpe.model").exists()
    output = import_tokenizer(tmp_path / "saved")
    lines = [*(line for group in sentences.values() for line in group), "漢字 ﬁ ½", *IDLE]
    assert lists(PieceEncoder(output), lines) == lists(PieceEncoder(imported_dir), lines)
    assert (output / "tokenizer.json").read_bytes() == (imported_dir / "tokenizer.json").read_bytes()


def real_lines(num_lines: int | None) -> dict[str, list[str]]:
    """Non-blank lines of each of 47 languages, at most `num_lines`; without <, which may spell a special token."""
    lines = {}
    for path in sorted((Path(os.environ["VECO_CORPORA"]) / "mono").glob("*.txt.gz")):
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            plain = (line.rstrip("\n") for line in file if line.strip() and "<" not in line)
            lines[path.name] = list(islice(plain, num_lines))
    assert len(lines) == 47
    return lines


def imported_twice(tmp_path: Path, lines: dict[str, list[str]], vocab_size: int) -> tuple[Path, Path, Path, list[str]]:
    """A tokenizer trained on these lines, the same in the order of a dictionary and from its tokenizer.json, and the
    dictionary.
    """
    names = ("trained", "ordered", "rebuilt")
    trained_dir, ordered, rebuilt = directories = [tmp_path / name for name in names]
    for directory in directories:
        directory.mkdir()
    model = train_model((line for group in lines.values() for line in group), vocab_size, 0.9995)
    write_tokenizer(model, trained_dir, [])
    entries = shuffled_with_idle(trained_dir)
    write_tokenizer(in_xlm_r_order(model, entries, trained_dir).model, ordered, [])
    main_arguments = [MODULE, str(trained_dir / "tokenizer.json"), "--output", str(rebuilt)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", main_arguments)
        main()
    return trained_dir, ordered, rebuilt, entries


@pytest.mark.skipif("VECO_CORPORA" not in os.environ, reason="VECO_CORPORA names no folder of real text")
def test_ids_equal_those_of_fairseq_in_47_languages(tmp_path: Path) -> None:
    text = real_lines(40)
    trained_dir, ordered, rebuilt, entries = imported_twice(tmp_path, text, 4000)
    lines = [line for group in text.values() for line in group]
    expected = fairseq_ids(load(trained_dir), entries, lines)
    assert lists(PieceEncoder(ordered), lines) == expected
    assert lists(PieceEncoder(rebuilt), lines) == lists(PieceEncoder(trained_dir), lines)
    # transformers cuts a few lines of Indic scripts otherwise: it is asked for pieces, which then become ids.
    index = {entry: i for i, entry in enumerate(entries, start=4)} | {"<unk>": 3}
    before, after = AutoTokenizer.from_pretrained(trained_dir), AutoTokenizer.from_pretrained(ordered)
    pieces = [before.convert_ids_to_tokens(ids) for ids in before(lines, add_special_tokens=False)["input_ids"]]
    found = after(lines, add_special_tokens=False)["input_ids"]
    assert found == [[index[piece] for piece in line] for line in pieces]
    assert sum(a != b for a, b in zip(found, expected, strict=True)) < len(lines) / 500


@pytest.mark.slow
@pytest.mark.skipif("VECO_CORPORA" not in os.environ, reason="VECO_CORPORA names no folder of real text")
def test_ids_equal_those_of_fairseq_in_all_lines_of_47_languages(tmp_path: Path) -> None:
    text = real_lines(None)
    sample = {name: lines[:500] for name, lines in text.items()}
    trained_dir, ordered, rebuilt, entries = imported_twice(tmp_path, sample, 12_000)
    for name, lines in text.items():
        assert lists(PieceEncoder(ordered), lines) == fairseq_ids(load(trained_dir), entries, lines), name
        assert lists(PieceEncoder(rebuilt), lines) == lists(PieceEncoder(trained_dir), lines), name
