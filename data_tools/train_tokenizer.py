"""Trains a SentencePiece unigram tokenizer with XLM-R's special ids: `python -m data_tools.train_tokenizer --help`.

The result is a directory of `sentencepiece.bpe.model` (what data_tools reads), `tokenizer.json` and
`tokenizer_config.json` (what AutoTokenizer reads). Equal text, options and SentencePiece version give equal bytes.
"""

import argparse
import glob
import hashlib
import io
import json
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

import sentencepiece
from rich.progress import Progress, TaskID
from sentencepiece import sentencepiece_model_pb2

from data_tools.cli import progress_bar, run_main
from data_tools.files import atomic_directory, open_text
from data_tools.tokenizer import (
    FIRST_PIECE_ID,
    MODEL_FILE,
    NUM_EXTRA_IDS,
    SENTENCEPIECE_BOS_ID,
    SENTENCEPIECE_EOS_ID,
    SENTENCEPIECE_UNK_ID,
    PieceEncoder,
)

MAX_LINE_BYTES = 4192  # SentencePiece's default; longer lines are left out of training
# A fixed number, because the sums over threads round differently when it changes; more than the cores does no harm.
NUM_THREADS = 16
# XLM-R's tokenizer has 512: 514 positions less the offset of two. It is a hint for users; nothing here depends on it.
MODEL_MAX_LENGTH = 512
# In nats: a piece becomes less probable by half a per cent at most, and a difference of this size survives the float32
# sums over a line of thousands of pieces.
MAX_JITTER = 0.005
MEGABYTE = 1_000_000
NUM_CHECKED_LINES = 200


@dataclass
class Counts:
    """What one reading of the input has seen so far."""

    num_lines: int = 0
    num_too_long: int = 0
    num_bytes: int = 0


def expand_inputs(patterns: list[str]) -> list[Path]:
    """The files that the names and globs stand for, sorted within a glob; ValueError for one without a match."""
    paths: list[Path] = []
    for pattern in patterns:
        matches = sorted(glob.glob(pattern, recursive=True)) or ([pattern] if Path(pattern).exists() else [])
        if not matches:
            raise ValueError(f"{pattern}: no such file")
        paths.extend(Path(match) for match in matches)
    return paths


def training_lines(paths: list[Path], counts: Counts, progress: Progress, bar: TaskID) -> Iterator[str]:
    """The non-empty lines of all files that are not too long for training; counts them as they go by.

    Raises what reading raises.
    """
    finished_bytes = 0
    for path in paths:
        with open_text(path) as lines:
            for line in lines:
                if not line or line.isspace():
                    continue
                num_bytes = len(line.encode())
                if num_bytes > MAX_LINE_BYTES:
                    counts.num_too_long += 1
                    continue
                counts.num_lines += 1
                counts.num_bytes += num_bytes
                if counts.num_lines % 10_000 == 0:
                    progress.update(bar, completed=(finished_bytes + lines.num_bytes_read) // MEGABYTE)
                yield line
        finished_bytes += path.stat().st_size
    progress.update(bar, completed=finished_bytes // MEGABYTE)


def chosen_lines(num_lines: int, num_chosen: int, seed: int) -> Iterator[int]:
    """The line numbers of a random sample, ascending: one from each of `num_chosen` equal stretches of the text.

    SentencePiece can draw a sample itself, but another one in every run. This one needs no memory and no second order.
    """
    random = Random(seed)
    for i in range(num_chosen):
        yield random.randrange(i * num_lines // num_chosen, (i + 1) * num_lines // num_chosen)


def sampled(lines: Iterable[str], num_lines: int, max_sentences: int, seed: int) -> Iterator[str]:
    """All of `num_lines` lines, or a sample of `max_sentences` of them."""
    if num_lines <= max_sentences:
        yield from lines
        return
    chosen = chosen_lines(num_lines, max_sentences, seed)
    following = next(chosen)
    for number, line in enumerate(lines):
        if number == following:
            yield line
            following = next(chosen, num_lines)


class _Guarded(Iterator[str]):
    """Lines for SentencePiece. It would turn an error of ours into one of its own: we keep it and end the stream."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines = lines
        self.is_empty = True
        self.error: Exception | None = None

    def __next__(self) -> str:
        try:
            line = next(self.lines)
        except (ValueError, OSError) as error:
            self.error = error
            raise StopIteration from None
        self.is_empty = False
        return line


def train_model(lines: Iterator[str], vocab_size: int, character_coverage: float) -> bytes:
    """A serialised SentencePiece model whose transformers tokenizer has `vocab_size` ids.

    Raises ValueError where the text is empty or does not support a vocabulary of that size, and what `lines` raises.
    """
    guarded = _Guarded(lines)
    model = io.BytesIO()
    failure = ""
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=guarded,
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size - NUM_EXTRA_IDS,
            character_coverage=character_coverage,
            normalization_rule_name="nmt_nfkc",
            byte_fallback=False,
            unk_id=SENTENCEPIECE_UNK_ID,
            bos_id=SENTENCEPIECE_BOS_ID,
            eos_id=SENTENCEPIECE_EOS_ID,
            pad_id=-1,
            max_sentence_length=MAX_LINE_BYTES,
            num_threads=NUM_THREADS,
            minloglevel=2,  # its information goes to stderr in hundreds of lines; errors arrive as exceptions
        )
    except RuntimeError as error:
        failure = str(error)
    if guarded.error is not None:
        raise guarded.error
    if guarded.is_empty:
        raise ValueError("no text to train on: all lines of the input are empty")
    if failure:
        raise ValueError(_explain(failure, vocab_size))
    return break_ties(model.getvalue())


def break_ties(model: bytes) -> bytes:
    """The model with each score lowered by up to MAX_JITTER, an amount that depends on the piece alone.

    Pieces that are equally frequent have scores that agree to a few millionths, so that "м|е|не" and "м|ен|е" are
    all but equally probable. SentencePiece then takes the one that its float32 sums favour, transformers the one that
    its float64 sums do. With a tokenizer of a small regular corpus, 198 of 2,000 lines of other text were cut
    differently before this, none after. What remains are runs of one character: 00|000 and 000|00 are the same pieces.
    """
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    for piece in proto.pieces:
        if piece.type == sentencepiece_model_pb2.ModelProto.SentencePiece.NORMAL:
            share = int.from_bytes(hashlib.sha256(piece.piece.encode()).digest()[:8], "big") / 2**64
            piece.score -= MAX_JITTER * share
    return bytes(proto.SerializeToString(deterministic=True))


def _explain(message: str, vocab_size: int) -> str:
    """SentencePiece's complaint about the vocabulary in terms of `--vocab-size`; another one as it stands."""
    too_high = re.search(r"Vocabulary size too high .*value <= (\d+)", message)
    if too_high:
        largest = int(too_high.group(1)) + NUM_EXTRA_IDS
        return f"--vocab-size {vocab_size:,} is more than the text supports: at most {largest:,}, or give more text"
    too_low = re.search(r"smaller than required_chars\D*(\d+)\D+(\d+)", message)
    if too_low:
        smallest = max(map(int, too_low.groups())) + NUM_EXTRA_IDS
        return (
            f"--vocab-size {vocab_size:,} is less than the characters of the text need: at least {smallest:,}, "
            "or lower --character-coverage"
        )
    return f"SentencePiece cannot train on this text: {message}"


def write_tokenizer(model: bytes, directory: Path, sample_lines: list[str], vocab_size: int) -> None:
    """Nothing; writes the tokenizer into an existing directory and checks what AutoTokenizer makes of it."""
    (directory / MODEL_FILE).write_bytes(model)
    config = {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": MODEL_MAX_LENGTH}
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    from transformers import AddedToken, AutoTokenizer, XLMRobertaTokenizer  # slow to import: only here

    # From the model alone transformers builds the tokenizer anew at every load; saved, it is read back at once.
    built = XLMRobertaTokenizer.from_pretrained(
        directory, mask_token=AddedToken("<mask>", lstrip=True, special=True), model_max_length=MODEL_MAX_LENGTH
    )
    built.save_pretrained(directory)
    # save_pretrained also notes how this very object was loaded; that belongs to no tokenizer directory.
    kept = {
        "tokenizer_class": "XLMRobertaTokenizer",
        "model_max_length": MODEL_MAX_LENGTH,
        "add_prefix_space": True,
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")

    loaded = AutoTokenizer.from_pretrained(directory)
    encoder = PieceEncoder(directory)
    special = [loaded.convert_tokens_to_ids(token) for token in ("<s>", "<pad>", "</s>", "<unk>", "<mask>")]
    assert len(loaded) == encoder.vocab_size == vocab_size, (len(loaded), encoder.vocab_size, vocab_size)
    assert special == [0, 1, 2, 3, vocab_size - 1], special
    plain = [line for line in sample_lines if "<" not in line]  # see data_tools.tokenizer on special tokens in raw text
    expected = loaded(plain, add_special_tokens=False, verbose=False)["input_ids"] if plain else []
    found = [ids.tolist() for ids in encoder.encode_lines(plain)]
    different = sum(a != b for a, b in zip(expected, found, strict=True))
    # Nearly equal sums of float32 may differ, a line in many thousands; with a wrong id layout all lines would.
    assert different <= len(plain) // 10, f"transformers tokenises {different} of {len(plain)} lines differently"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.train_tokenizer",
        description="Trains a SentencePiece unigram tokenizer in XLM-R's layout: <s> 0, <pad> 1, </s> 2, <unk> 3, "
        "<mask> last; nmt_nfkc normalisation, no byte fallback.",
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="F",
        help="text files, one sentence a line; globs; plain, .gz, .xz or .zst",
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        required=True,
        metavar="N",
        help="the whole vocabulary, special tokens included: what len(tokenizer) reports",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="TOKENIZER", help="the directory to make")
    parser.add_argument("--overwrite", action="store_true", help="replace the output directory if it exists")
    parser.add_argument(
        "--character-coverage",
        type=float,
        default=0.9995,
        metavar="SHARE",
        help="share of the text's characters that get a piece, the rarest become <unk> (default %(default)s, XLM-R's)",
    )
    parser.add_argument(
        "--max-sentences",
        type=int,
        default=5_000_000,
        metavar="M",
        help="train on a random sample of so many lines if there are more; held in memory (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of that sample (default %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Nothing; the command line."""
    options = parse_arguments()
    if options.vocab_size <= FIRST_PIECE_ID + 1:
        raise ValueError(f"--vocab-size {options.vocab_size}: five ids are special, expected more")
    if not 0 < options.character_coverage <= 1:
        raise ValueError(f"--character-coverage {options.character_coverage}: expected a share in (0, 1]")
    if options.max_sentences < 1:
        raise ValueError(f"--max-sentences {options.max_sentences}: expected at least 1")
    paths = expand_inputs(options.input)
    with atomic_directory(options.output, overwrite=options.overwrite) as directory:
        start = time.monotonic()
        with progress_bar() as progress:
            total = sum(path.stat().st_size for path in paths) // MEGABYTE
            counts = Counts()
            counting = progress.add_task("counting", total=total, unit="MB")
            # The first pass makes the sample repeatable, and finds what is wrong with the files before the training.
            counted = training_lines(paths, counts, progress, counting)
            first_lines = list(islice(counted, NUM_CHECKED_LINES))
            deque(counted, maxlen=0)
            num_used = min(counts.num_lines, options.max_sentences)
            training = progress.add_task("training", total=total, unit=f"MB read, {num_used:,} lines")
            lines = training_lines(paths, Counts(), progress, training)
            chosen = sampled(lines, counts.num_lines, options.max_sentences, options.seed)
            model = train_model(chosen, options.vocab_size, options.character_coverage)
        write_tokenizer(model, directory, first_lines, options.vocab_size)
    skipped = f", {counts.num_too_long:,} lines over {MAX_LINE_BYTES:,} bytes left out" if counts.num_too_long else ""
    print(
        f"{options.output}: {options.vocab_size:,} pieces from {num_used:,} of {counts.num_lines:,} lines "
        f"({counts.num_bytes / MEGABYTE:.1f} MB) of {len(paths)} files{skipped}, {time.monotonic() - start:.0f} s"
    )


if __name__ == "__main__":
    run_main(main)
