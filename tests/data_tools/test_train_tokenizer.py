import bz2
import gzip
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from transformers import AutoTokenizer, XLMRobertaTokenizer

from data_tools.tokenizers.sentence_piece import PieceEncoder
from data_tools.tokenizers.unigram_training import MAX_JITTER, break_ties, train_model
from data_tools.train_tokenizer import describe_loss, file_inputs, lost_characters, main

MODULE = "data_tools.train_tokenizer"
Train = Callable[..., str]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Train:
    """A function (arguments…) that trains a tokenizer into `tmp_path / "out"` in this process; what it prints."""

    def run(*arguments: str | Path) -> str:
        options = ["--output", tmp_path / "out", *arguments]
        monkeypatch.setattr(sys, "argv", [MODULE, *map(str, options)])
        main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def text_files(tmp_path: Path, sentences: dict[str, list[str]]) -> Path:
    """A glob over a plain and a compressed file."""
    (tmp_path / "text.de").write_text("\n".join(sentences["de"]) + "\n\n", encoding="utf-8")
    (tmp_path / "text.ru.gz").write_bytes(gzip.compress("\n".join(sentences["ru"]).encode()))
    return tmp_path / "text.*"


def test_the_command_line_makes_a_tokenizer(tmp_path: Path, text_files: Path, run_module: Callable) -> None:
    output = tmp_path / "new" / "tokenizer"
    process = run_module(MODULE, "--input", text_files, "--vocab-size", "200", "--output", output)
    assert process.returncode == 0, process.stderr
    assert "200 pieces from 1,500 of 1,500 lines" in process.stdout
    assert len(process.stderr.splitlines()) < 5, "SentencePiece's log must not reach the terminal"

    tokenizer = AutoTokenizer.from_pretrained(output)
    assert isinstance(tokenizer, XLMRobertaTokenizer)
    assert len(tokenizer) == 200
    special = tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    assert special == [0, 1, 2, 3, 199]
    ids = tokenizer("die Lehrerin").input_ids
    assert (ids[0], ids[-1]) == (0, 2)
    model = sentencepiece.SentencePieceProcessor(model_file=str(output / "sentencepiece.bpe.model"))
    assert model.get_piece_size() == 198

    assert "including special tokens" in " ".join(run_module(MODULE, "--help").stdout.split())


def test_equal_runs_give_equal_bytes(tmp_path: Path, text_files: Path, run_module: Callable, train: Train) -> None:
    options = ["--input", text_files, "--vocab-size", "150", "--max-sentences", "700"]
    assert "150 pieces from 700 of 1,500 lines" in train(*options)
    other = tmp_path / "other"
    # Another process has other hashes.
    assert run_module(MODULE, *options, "--output", other).returncode == 0
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), f"{path.name} differs between two equal runs"
    with pytest.raises(ValueError, match="exists already"):
        train(*options)
    train(*options, "--seed", "2", "--overwrite")
    model = "out/sentencepiece.bpe.model"
    assert (tmp_path / model).read_bytes() != (other / "sentencepiece.bpe.model").read_bytes(), "another sample"


@pytest.mark.parametrize("options", [("bpe",), ("wordpiece",), ("wordpiece", "--lowercase")], ids=" ".join)
def test_other_models_are_fast_tokenizers_of_transformers(
    options: tuple[str, ...], tmp_path: Path, text_files: Path, train: Train
) -> None:
    printed = train("--input", text_files, "--vocab-size", "380", "--model", *options)
    assert "380 pieces from 1,500 of 1,500 lines" in printed
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.is_fast and len(tokenizer) == 380
    named = tokenizer.special_tokens_map
    assert {"cls_token", "sep_token", "pad_token", "unk_token", "mask_token"} <= named.keys()
    expected = [0, 1, 2, 3, 4] if options[0] == "wordpiece" else [0, 1, 2, 3, 379]
    assert sorted(set(tokenizer.all_special_ids)) == expected
    assert "token_type_ids" not in tokenizer("Die", "Lehrerin"), "VECO has none"
    assert tokenizer.decode(tokenizer("Die Lehrerin")["input_ids"], skip_special_tokens=True) == (
        "die lehrerin" if "--lowercase" in options else "Die Lehrerin"
    )


def test_word_piece_is_the_same_in_every_process(
    tmp_path: Path, text_files: Path, run_module: Callable, train: Train
) -> None:
    """`tokenizers` alone numbers pieces in the order of a hash map, another one in every training."""
    options = ["--input", text_files, "--vocab-size", "200", "--model", "wordpiece", "--character-coverage", "0.995"]
    train(*options)
    assert run_module(MODULE, *options, "--output", tmp_path / "other").returncode == 0
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (tmp_path / "other" / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("bpe", "--vocab-size", "200"), "--vocab-size 200 is too small for .* use at least 261"),
        (("bpe", "--vocab-size", "90000"), r"--vocab-size 90,000 is more than the text supports: use at most \d"),
        (("wordpiece", "--vocab-size", "30"), r"--vocab-size 30 is too small for .* use at least \d\d"),
        (("bpe", "--vocab-size", "400", "--lowercase"), "--lowercase: only --model wordpiece can do so, found bpe"),
        (("bpe", "--vocab-size", "400", "--character-coverage", "1"), "--model bpe has pieces for all characters"),
    ],
)
def test_what_other_models_cannot_do_is_told(
    options: tuple[str, ...], message: str, text_files: Path, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        train("--input", text_files, "--model", *options)
    assert not (tmp_path / "out").exists()


def test_files_of_others_are_kept(tmp_path: Path, text_files: Path, train: Train) -> None:
    """Even --overwrite does not remove them; it replaces only the command's own files."""
    output = tmp_path / "out"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    options = ["--input", text_files, "--vocab-size", "150", "--overwrite"]
    with pytest.raises(ValueError, match=r"out: was not made by data_tools\.train_tokenizer; only what it wrote"):
        train(*options)
    (output / "notes.txt").unlink()
    train(*options)
    (output / "text.de").write_text("mine")
    with pytest.raises(ValueError, match=r"out: holds text\.de, not written by data_tools\.train_tokenizer"):
        train(*options)
    with pytest.raises(ValueError, match=r"the input .*text\.de is in it"):
        train("--input", output / "text.de", *options[2:])
    assert (output / "text.de").read_text() == "mine"


def test_languages_of_a_corpus_are_smoothed(corpus_file: Path, train: Train) -> None:
    # One of the two languages has three times as many lines: 900 and 300, 300 of each in pairs.
    text = corpus_file.read_text().replace("de: [text/mono*.de.gz]", "de: [text/mono*.de.gz, text/pair*.de]")
    corpus_file.write_text(text)
    # Square roots of the shares: 1.732 to 1.414.
    options = ["--corpus", corpus_file, "--vocab-size", "150", "--max-sentences", "629", "--alpha", "0.5"]
    rows = [row.split() for row in train(*options).splitlines()]
    assert rows[1][:5] == ["de", "900", "60.000%", "346", "55.008%"]
    assert rows[2][:5] == ["ru", "600", "40.000%", "283", "44.992%"]
    assert rows[-1][1:6] == ["150", "pieces", "from", "629", "of"]


def test_smoothing_needs_a_sample(corpus_file: Path, train: Train, tmp_path: Path) -> None:
    corpus_file.write_text(corpus_file.read_text().replace("tokenizer:", "tokenizer: not-there-yet #"))
    printed = train("--corpus", corpus_file, "--vocab-size", "150")
    assert "all lines are used, so --alpha changes nothing" in printed
    assert PieceEncoder(tmp_path / "out").vocab_size == 150


def test_lost_characters_are_reported(corpus_file: Path, train: Train, sentences: dict[str, list[str]]) -> None:
    german = "\n".join([*sentences["de"], "e\u0301 \u2021 e\u0301"])
    (corpus_file.parent / "text.de").write_text(german)
    (corpus_file.parent / "text.ru").write_text("\u0436\u0434\n" * 3)
    corpus_file.write_text("tokenizer: x\nmono: {de: text.de, ru: text.ru}\n")
    options = ["--corpus", corpus_file, "--vocab-size", "150", "--overwrite", "--character-coverage"]
    rows = train(*options, "0.999").splitlines()
    composed = german.replace("e\u0301", "\u00e9").replace("\n", "")
    share, *lost = rows[1].split()[5:]
    assert {"\u00e9", "\u2021"} <= set(lost)
    assert lost == sorted(lost, key=lambda character: -composed.count(character))
    num_lost = sum(map(composed.count, lost))
    assert share == f"{num_lost / len(composed):.4%}"
    assert rows[2].split()[4:] == ["0.398%", "100.0000%", "\u0436", "\u0434"]
    assert rows[-2].startswith(f"{(num_lost + 6) / (len(composed) + 6):.4%} ")
    assert rows[-2].endswith(": characters that become <unk>; a higher --character-coverage keeps them")
    rows = train(*options, "1").splitlines()
    assert rows[1].split()[-1] == rows[2].split()[-1] == "0.0000%"
    assert "<unk>;" not in rows[-2]


def test_lost_characters_are_those_without_a_piece(tokenizer_dir: Path) -> None:
    characters = Counter({"a": 90, "\u6f22": 4, "\u0301": 3, "\ufb01": 2, " ": 1})
    lost = lost_characters(characters, PieceEncoder(tokenizer_dir))
    assert lost == {"\u6f22": 4, "\u0301": 3}, "\ufb01 is normalised to f and i, a space to nothing"
    assert describe_loss(lost, 100) == "7.0000% \u6f22 U+0301"
    assert describe_loss(Counter(), 100) == "0.0000%"
    assert describe_loss(Counter(dict.fromkeys("abcdefghi", 1)), 900) == "1.0000% a b c d e f g h \u2026"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vocab-size", "100000"], "--vocab-size 100,000 is more than the text supports: use at most "),
        (["--vocab-size", "20"], "--vocab-size 20 is too small for the characters of the text: use at least "),
        (["--vocab-size", "4"], "expected more than the five special ids"),
        (["--vocab-size", "99", "--alpha", "0.3"], "expected --corpus, found --input"),
        (["--vocab-size", "99", "--max-sentences", "0"], "--max-sentences 0: expected at least 1"),
        (["--vocab-size", "99", "--character-coverage", "1.5"], r"expected a share in \(0, 1\]"),
    ],
)
def test_invalid_options_are_named(
    tmp_path: Path, text_files: Path, train: Train, options: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train("--input", text_files, *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.de", "text.ru.gz"]


def test_an_invalid_alpha_is_named(corpus_file: Path, train: Train) -> None:
    with pytest.raises(ValueError, match=r"--alpha 1.5: expected a number in \[0, 1\]"):
        train("--corpus", corpus_file, "--vocab-size", "99", "--alpha", "1.5")


def test_the_largest_size_in_the_message_is_possible(sentences: dict[str, list[str]]) -> None:
    def train(vocab_size: int) -> bytes:
        return train_model(iter(sentences["de"]), vocab_size, 1.0)

    with pytest.raises(ValueError, match="at most") as error_info:
        train(100_000)
    largest = int(str(error_info.value).split("at most ")[1].split(", or")[0].replace(",", ""))
    assert train(largest)
    with pytest.raises(ValueError, match="at most"):
        train(largest + 1)


def test_ties_are_broken(tmp_path: Path, tokenizer_dir: Path) -> None:
    random = Random(1)
    lines = ["".join(random.choices("αβγ", k=41)) for _ in range(300)]

    def num_different(model: bytes) -> int:
        directory = tmp_path / hashlib.sha256(model).hexdigest()
        directory.mkdir()
        (directory / "sentencepiece.bpe.model").write_bytes(model)
        (directory / "tokenizer_config.json").write_text('{"tokenizer_class": "XLMRobertaTokenizer"}')
        expected = AutoTokenizer.from_pretrained(directory)(lines, add_special_tokens=False)["input_ids"]
        found = [ids.tolist() for ids in PieceEncoder(directory).encode_lines(lines)]
        # Sorted: α|αα and αα|α are the same pieces, and no score can tell them apart.
        return sum(sorted(a) != sorted(b) for a, b in zip(expected, found, strict=True))

    # All pairs of letters are nearly equally probable, so that the one odd letter of a line may stand anywhere.
    proto = sentencepiece_model_pb2.ModelProto.FromString((tokenizer_dir / "sentencepiece.bpe.model").read_bytes())
    pieces = [*"αβγ", *(a + b for a in "αβγ" for b in "αβγ")]
    for i, (piece, text) in enumerate(zip(proto.pieces[-len(pieces) :], pieces, strict=True)):
        piece.piece, piece.score = text, -2.37 - 1.13 * len(text) + 2e-6 * i
    tied = proto.SerializeToString()
    before_breaking = num_different(tied)
    assert before_breaking > 100, "the test wants a model with ties"
    # In lines made of nothing but ties a few sums still fall together.
    assert num_different(break_ties(tied)) < before_breaking / 50
    broken = sentencepiece_model_pb2.ModelProto.FromString(break_ties(tied))
    for before, after in zip(proto.pieces, broken.pieces, strict=True):
        assert before.piece == after.piece
        assert before.score - MAX_JITTER - 1e-5 <= after.score <= before.score


def test_unreadable_input_is_one_line(
    tmp_path: Path, run_module: Callable, assert_one_line_error: Callable, train: Train
) -> None:
    with pytest.raises(ValueError, match="none.txt: no such file"):
        train("--input", tmp_path / "none.txt", "--vocab-size", "50")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match="no text to train on"):
        train("--input", tmp_path / "empty.txt", "--vocab-size", "50")
    (tmp_path / "latin.txt").write_bytes(b"good\nM\xfcller\n")
    options = ["--input", tmp_path / "latin.txt", "--vocab-size", "50", "--output", tmp_path / "out"]
    assert_one_line_error(run_module(MODULE, *options), "latin.txt: line 2 is not UTF-8")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["c4.json", "c4.ndjson", "c4.JSONL", "c4.jsonl.bz2"])
def test_json_lines_are_read_as_such(tmp_path: Path, train: Train, sentences: dict[str, list[str]], name: str) -> None:
    content = "".join(
        json.dumps({"text": "\n".join(sentences["de"][i : i + 5]), "timestamp": "2019-04-25T12:57:54Z"}) + "\n"
        for i in range(0, 100, 5)
    ).encode()
    (tmp_path / name).write_bytes(bz2.compress(content) if name.endswith("bz2") else content)
    printed = train("--input", tmp_path / name, "--vocab-size", "80")
    assert "from 100 of 100 lines" in printed
    pieces = json.loads((tmp_path / "out" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert not [piece for piece, _ in pieces if set('{}"') & set(piece)]


def test_files_that_are_not_text_of_one_language_are_refused(tmp_path: Path) -> None:
    for name, message in [
        ("news.tgz", "by its suffix .tgz an archive, expected text; unpack it"),
        ("page.HTML", "by its suffix .html markup"),
        ("p.tmx", "tmx files hold pairs; in --corpus corpus.yaml, name it under parallel, as tmx: …"),
        ("o.zip", "opus files hold pairs; in --corpus corpus.yaml, name it under parallel, as opus: …"),
        ("p.tsv.gz", "a table; in --corpus corpus.yaml, say which column to read: {tsv: …, column: …}"),
    ]:
        (tmp_path / name).touch()
        with pytest.raises(ValueError) as caught:
            file_inputs([str(tmp_path / name)])
        assert str(caught.value).startswith(f"{tmp_path / name}: {message}")


def test_a_file_given_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n")
    (tmp_path / "b.txt").symlink_to("a.txt")
    with pytest.raises(ValueError, match=r"^.*/a\.txt is given twice$"):
        file_inputs([f"{tmp_path}/a.txt", f"{tmp_path}/a.*"])
    with pytest.raises(ValueError, match=r"^.*/b\.txt is given twice, as .*/a\.txt, which is the same file \(a link\)"):
        file_inputs([f"{tmp_path}/?.txt"])


def test_the_reason_for_no_text_is_reported(tmp_path: Path, train: Train) -> None:
    def message(content: str) -> str:
        (tmp_path / "a.txt").write_text(content, encoding="utf-8")
        with pytest.raises(ValueError) as caught:
            train("--input", tmp_path / "a.txt", "--vocab-size", "50")
        assert "INTERNAL" not in str(caught.value)
        return str(caught.value)

    assert message("word " * 1_000 + "\n" + "word " * 2_000 + "\n").startswith(
        "no text to train on: all 2 lines are longer than 4,192 bytes; expected one sentence per line"
    )
    assert message("") == "no text to train on: the input has no line with text (dropped: 1 empty_file)"
    assert message("\n \n") == "no text to train on: the input has no line with text"
    for nothing in ("\u200b\n" * 10, "\x01\x02\n", "\u2581\n", "\u2585x\n"):
        assert message(nothing).startswith("no text to train on: SentencePiece skips all lines of the input; ")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe: a pipe or device; name a file, since text is read twice"):
        train("--input", tmp_path / "pipe", "--vocab-size", "50")


def test_inputs_are_sorted_and_names_may_hold_brackets(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c[1].txt"):
        (tmp_path / name).write_text("x\n")
    inputs = file_inputs([f"{tmp_path}/?.txt", f"{tmp_path}/c[1].txt"])
    assert [Path(*item.paths).name for item in inputs] == ["a.txt", "b.txt", "c[1].txt"]
