import gzip
import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2
from transformers import AutoTokenizer, XLMRobertaTokenizer

from data_tools.tokenizer import PieceEncoder
from data_tools.train_tokenizer import MAX_JITTER, break_ties, chosen_lines, expand_inputs, sampled, train_model

MODULE = "data_tools.train_tokenizer"


@pytest.fixture
def text_files(tmp_path: Path, sentences: dict[str, list[str]]) -> Path:
    """A glob over a plain and a compressed file."""
    (tmp_path / "text.de").write_text("\n".join(sentences["de"]) + "\n\n", encoding="utf-8")
    (tmp_path / "text.ru.gz").write_bytes(gzip.compress("\n".join(sentences["ru"]).encode()))
    return tmp_path / "text.*"


def test_command_line(tmp_path: Path, text_files: Path, run_module: Callable) -> None:
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

    again = run_module(MODULE, "--input", text_files, "--vocab-size", "200", "--output", output)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    other = tmp_path / "other"
    assert run_module(MODULE, "--input", text_files, "--vocab-size", "200", "--output", other).returncode == 0
    for path in output.iterdir():
        assert path.read_bytes() == (other / path.name).read_bytes(), f"{path.name} differs between two equal runs"


def test_help_says_what_is_counted(run_module: Callable) -> None:
    process = run_module(MODULE, "--help")
    assert process.returncode == 0
    assert "special tokens included" in " ".join(process.stdout.split())


@pytest.mark.parametrize(
    ("vocab_size", "words"),
    [
        ("100000", ["--vocab-size 100,000 is more than the text supports: at most "]),
        ("20", ["--vocab-size 20 is less than the characters of the text need: at least "]),
        ("4", ["five ids are special"]),
    ],
)
def test_impossible_sizes(
    tmp_path: Path,
    text_files: Path,
    run_module: Callable,
    assert_one_line_error: Callable,
    vocab_size: str,
    words: list[str],
) -> None:
    process = run_module(MODULE, "--input", text_files, "--vocab-size", vocab_size, "--output", tmp_path / "out")
    assert_one_line_error(process, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.de", "text.ru.gz"]


def test_the_largest_size_named_is_possible(sentences: dict[str, list[str]]) -> None:
    def train(vocab_size: int) -> bytes:
        return train_model(iter(sentences["de"]), vocab_size, 1.0)

    with pytest.raises(ValueError, match="at most") as error_info:
        train(100_000)
    largest = int(str(error_info.value).split("at most ")[1].split(", or")[0].replace(",", ""))
    assert train(largest)
    with pytest.raises(ValueError, match="at most"):
        train(largest + 1)


def test_a_sample_of_the_sentences_repeats() -> None:
    lines = [str(i) for i in range(1000)]

    def sample(max_sentences: int, seed: int) -> list[str]:
        return list(sampled(iter(lines), len(lines), max_sentences, seed))

    assert sample(300, seed=1) == sample(300, seed=1) != sample(300, seed=2)
    assert sample(1000, seed=1) == sample(2000, seed=1) == lines


@given(num_lines=st.integers(1, 5000), share=st.floats(0, 1, exclude_min=True), seed=st.integers(0, 99))
def test_samples_have_their_size_and_no_line_twice(num_lines: int, share: float, seed: int) -> None:
    num_chosen = max(1, int(num_lines * share))
    chosen = list(chosen_lines(num_lines, num_chosen, seed))
    assert len(chosen) == num_chosen
    assert chosen == sorted(set(chosen))
    assert chosen[0] >= 0 and chosen[-1] < num_lines


def test_lines_of_a_stretch_are_drawn_equally_often() -> None:
    num_draws = 4000
    counts = Counter(i for seed in range(num_draws) for i in chosen_lines(10, 4, seed))
    # Stretches of 2 or 3 lines, 1 of each is drawn: 0-1, 2-4, 5-6, 7-9. Standard deviation below 32.
    for i in range(10):
        expected = num_draws / (3 if i in (2, 3, 4, 7, 8, 9) else 2)
        assert abs(counts[i] - expected) < 160


def test_sampling_on_the_command_line(tmp_path: Path, text_files: Path, run_module: Callable) -> None:
    options = ["--vocab-size", "150", "--max-sentences", "700", "--output", tmp_path / "out"]
    process = run_module(MODULE, "--input", text_files, *options)
    assert process.returncode == 0, process.stderr
    assert "150 pieces from 700 of 1,500 lines" in process.stdout


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


def test_bad_input(tmp_path: Path, run_module: Callable, assert_one_line_error: Callable) -> None:
    def train(*inputs: Path) -> object:
        return run_module(MODULE, "--input", *inputs, "--vocab-size", "50", "--output", tmp_path / "out")

    assert_one_line_error(train(tmp_path / "none.txt"), "none.txt: no such file")
    (tmp_path / "empty.txt").write_text("\n \n")
    assert_one_line_error(train(tmp_path / "empty.txt"), "no text to train on")
    (tmp_path / "latin.txt").write_bytes(b"good\nM\xfcller\n")
    assert_one_line_error(train(tmp_path / "latin.txt"), "latin.txt: line 2 is not UTF-8")
    assert not (tmp_path / "out").exists()


def test_inputs_are_sorted_and_names_may_hold_brackets(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c[1].txt"):
        (tmp_path / name).write_text("x\n")
    assert [path.name for path in expand_inputs([f"{tmp_path}/?.txt", f"{tmp_path}/c[1].txt"])] == [
        "a.txt",
        "b.txt",
        "c[1].txt",
    ]
