"""Train a SentencePiece unigram tokenizer with XLM-R's special ids: `python -m data_tools.train_tokenizer --help`.

The result is a directory with `sentencepiece.bpe.model` (read by data_tools), `tokenizer.json` and
`tokenizer_config.json` (read by AutoTokenizer). Equal text, options and SentencePiece version give equal bytes.

The text is that of files, or all text of a CORPUS.yaml, whose languages are then smoothed (see
data_tools.tokenizers.training_sample); a table shows the lines of each. `filters`, `deduplicate` and `valid` of the
corpus do not apply.

Characters beyond `--character-coverage` get no piece and become <unk>: the rarest of all text, whatever their language.
With 99.95 % of German, English and French these include ï, Á and À, and a language with little text in a script of its
own may lose its letters. So the command prints which share of each language was lost, and which characters.
"""

import argparse
import hashlib
import io
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import combining, normalize

import sentencepiece
from rich.progress import Progress
from sentencepiece import sentencepiece_model_pb2

from data_tools.cli import FlagParser, progress_bar, run_main, warn
from data_tools.corpus.configuration import Corpus
from data_tools.corpus.inputs import Input, files_named_twice, plain_input
from data_tools.files.directories import atomic_directory
from data_tools.files.locations import check_can_be_read_again, expand
from data_tools.files.outputs import check_output_directory
from data_tools.readers import size_of
from data_tools.tokenizers.files import write_tokenizer
from data_tools.tokenizers.sentence_piece import (
    FIRST_PIECE_ID,
    NUM_EXTRA_IDS,
    SENTENCEPIECE_BOS_ID,
    SENTENCEPIECE_EOS_ID,
    SENTENCEPIECE_UNK_ID,
    UNK_ID,
    PieceEncoder,
)
from data_tools.tokenizers.training_sample import MAX_LINE_BYTES, LineCounts, allocate, drawn, training_lines

COMMAND = "data_tools.train_tokenizer"
# Fixed, because the rounding of sums over threads depends on it; more threads than cores do no harm.
NUM_THREADS = 16
# In nats: a piece becomes at most half a per cent less probable, and differences of this size survive the float32 sums
# over a line of thousands of pieces.
MAX_JITTER = 0.005
MEGABYTE = 1_000_000
NUM_CHECKED_LINES = 200
NUM_SHOWN_CHARACTERS = 8
# SentencePiece's errors for text without any character that it could learn.
NO_CHARACTERS = re.compile(r"all_chars_count|!sentences_\.empty")
INTERNAL = re.compile(r"^(INTERNAL|Internal): \S+\(\d+\) ")  # the place in its source, in front of an error
DEFAULT_ALPHA = 0.3  # XLM-R's
ANY_LANGUAGE = "all"  # the language of files without a corpus


@dataclass
class Watched:
    """Records of the lines that SentencePiece trains on: their characters by language, and every n-th line."""

    every: int
    characters: dict[str, Counter[str]] = field(default_factory=dict)
    sample: list[str] = field(default_factory=list)

    def lines(self, lines: Iterable[tuple[str, str]]) -> Iterator[str]:
        """The lines of (language, line); characters are counted after NFKC, as the tokenizer sees them."""
        for number, (language, line) in enumerate(lines):
            self.characters.setdefault(language, Counter()).update(normalize("NFKC", line))
            if number % self.every == 0:
                self.sample.append(line)
            yield line


class _Guarded(Iterator[str]):
    """Lines for SentencePiece, which would hide the errors of reading them: the stream ends, and the error is kept."""

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

    Raises ValueError if the text is empty or does not support a vocabulary of that size, and the errors of `lines`.
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
            minloglevel=2,  # it would log hundreds of lines to stderr; errors are exceptions
        )
    except RuntimeError as error:
        failure = str(error)
    if guarded.error is not None:
        raise guarded.error
    if guarded.is_empty:
        raise ValueError("no text to train on: all lines of the input are blank")
    if failure:
        raise ValueError(_explain(failure, vocab_size))
    return break_ties(model.getvalue())


def break_ties(model: bytes) -> bytes:
    """The model with each score lowered by up to MAX_JITTER, by an amount that depends only on the piece.

    The scores of equally frequent pieces agree to a few millionths, so that "м|е|не" and "м|ен|е" are almost equally
    probable. SentencePiece then takes the one favoured by its float32 sums, transformers the one favoured by its
    float64 sums. With a tokenizer of a small regular corpus, they cut 198 of 2,000 lines of other text differently
    without this, and none with it. Only runs of one character remain: 00|000 and 000|00 are the same pieces.
    """
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    for piece in proto.pieces:
        if piece.type == sentencepiece_model_pb2.ModelProto.SentencePiece.NORMAL:
            share = int.from_bytes(hashlib.sha256(piece.piece.encode()).digest()[:8], "big") / 2**64
            piece.score -= MAX_JITTER * share
    return bytes(proto.SerializeToString(deterministic=True))


def _explain(message: str, vocab_size: int) -> str:
    """SentencePiece's error about the vocabulary, in terms of `--vocab-size`; other errors as they are."""
    too_high = re.search(r"Vocabulary size too high .*value <= (\d+)", message)
    if too_high:
        largest = int(too_high.group(1)) + NUM_EXTRA_IDS
        return f"--vocab-size {vocab_size:,} is more than the text supports: use at most {largest:,}, or more text"
    too_low = re.search(r"smaller than required_chars\D*(\d+)\D+(\d+)", message)
    if too_low:
        smallest = max(map(int, too_low.groups())) + NUM_EXTRA_IDS
        return (
            f"--vocab-size {vocab_size:,} is too small for the characters of the text: use at least {smallest:,}, "
            "or lower --character-coverage"
        )
    if NO_CHARACTERS.search(message):
        return (
            "no text to train on: SentencePiece skips all lines of the input; either normalisation removes all their "
            "characters, such as control characters, or they contain U+2581 or U+2585, which it uses itself"
        )
    return f"SentencePiece cannot train on this text: {INTERNAL.sub('', message)}"


def lost_characters(characters: Counter[str], encoder: PieceEncoder) -> Counter[str]:
    """The counts of those characters that become <unk>."""
    pieces = zip(characters.items(), encoder.encode_lines(list(characters)), strict=True)
    return Counter({character: count for (character, count), ids in pieces if UNK_ID in ids})


def describe_loss(lost: Counter[str], num_characters: int) -> str:
    """The share of lost characters and the most frequent of them, such as `0.0312% Á À`."""
    shown = [
        character if character.isprintable() and not combining(character) else f"U+{ord(character):04X}"
        for character, _ in lost.most_common(NUM_SHOWN_CHARACTERS)
    ]
    more = ["…"] if len(lost) > NUM_SHOWN_CHARACTERS else []
    return " ".join([f"{lost.total() / max(1, num_characters):.4%}", *shown, *more])


def language_table(
    num_lines: Mapping[str, int],
    num_drawn: Mapping[str, int],
    characters: Mapping[str, Counter[str]],
    encoder: PieceEncoder,
) -> list[str]:
    """The rows of a table: lines of each language before and after sampling, and its lost characters; largest first."""
    width = max(map(len, ["language", *num_lines]))
    rows = [f"{'language':{width}} {'lines':>15} {'share':>8} {'drawn':>12} {'share':>8}  <unk>"]
    for language in sorted(num_lines, key=lambda language: -num_lines[language]):
        before, after = (f"{n[language]:,} {n[language] / sum(n.values()):8.3%}" for n in (num_lines, num_drawn))
        seen = characters.get(language, Counter())
        loss = describe_loss(lost_characters(seen, encoder), seen.total())
        rows.append(f"{language:{width}} {before:>24} {after:>21}  {loss}")
    return rows


def file_inputs(patterns: Sequence[str]) -> list[Input]:
    """The inputs for names and globs of files, sorted within a glob.

    Raises ValueError for a glob without a match, and for a file that is given twice or is not text of one language.
    """
    inputs: list[Input] = []
    for pattern in patterns:
        paths = expand(pattern, Path.cwd())
        if not paths:
            raise ValueError(f"{pattern}: no such file")
        for path in paths:
            check_can_be_read_again(path)
            inputs.append(plain_input(ANY_LANGUAGE, path, corpus="--corpus corpus.yaml"))
    if problems := files_named_twice(inputs):
        raise ValueError("; ".join(problems).replace(f"mono/{ANY_LANGUAGE}: ", ""))
    return inputs


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m data_tools.train_tokenizer",
        description="Train a SentencePiece unigram tokenizer in XLM-R's layout: <s> 0, <pad> 1, </s> 2, <unk> 3, "
        "<mask> last; nmt_nfkc normalisation, no byte fallback.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--input",
        nargs="+",
        metavar="F",
        help="files or globs: text, one sentence per line, or JSON lines (.jsonl, .ndjson, .json) or Parquet with a "
        "column `text`; plain, .gz, .xz, .zst or .bz2",
    )
    source.add_argument(
        "--corpus",
        type=Path,
        metavar="CORPUS.yaml",
        help="all text of this corpus (the input of data_tools.prepare), with its languages smoothed by --alpha",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        metavar="A",
        help="with --corpus: a language with n lines contributes a share proportional to n^A; 1 keeps the shares of "
        f"the corpus, 0 makes them equal (default {DEFAULT_ALPHA}, XLM-R's)",
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        required=True,
        metavar="N",
        help="size of the whole vocabulary, including special tokens, as len(tokenizer) reports it",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="TOKENIZER", help="the directory to make")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output directory if this command made everything in it"
    )
    parser.add_argument(
        "--character-coverage",
        type=float,
        default=0.9995,
        metavar="SHARE",
        help="share of the text's characters that get a piece; the rarest become <unk>, and are printed (default "
        "%(default)s, XLM-R's)",
    )
    parser.add_argument(
        "--max-sentences",
        type=int,
        default=5_000_000,
        metavar="M",
        help="train on a random sample of M lines if there are more; held in memory (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of that sample (default %(default)s)")
    return parser.parse_args()


def check(options: argparse.Namespace) -> None:
    """Raise ValueError for invalid options."""
    if options.vocab_size <= FIRST_PIECE_ID + 1:
        raise ValueError(f"--vocab-size {options.vocab_size}: expected more than the five special ids")
    if not 0 < options.character_coverage <= 1:
        raise ValueError(f"--character-coverage {options.character_coverage}: expected a share in (0, 1]")
    if options.max_sentences < 1:
        raise ValueError(f"--max-sentences {options.max_sentences}: expected at least 1")
    if options.alpha is not None and options.corpus is None:
        raise ValueError("--alpha smooths the languages of a corpus: expected --corpus, found --input")
    if options.alpha is not None and not 0 <= options.alpha <= 1:
        raise ValueError(f"--alpha {options.alpha}: expected a number in [0, 1]")


def check_has_lines(counts: LineCounts) -> None:
    """Raise ValueError if the input has no line to train on, with the reasons why its lines were dropped."""
    if not counts.num_lines and counts.num_too_long:
        raise ValueError(
            f"no text to train on: all {counts.num_too_long:,} lines are longer than {MAX_LINE_BYTES:,} bytes; "
            "expected one sentence per line (for running text use --corpus and split_sentences: true)"
        )
    if not counts.num_lines:
        raise ValueError(f"no text to train on: the input has no line with text{told(counts.dropped)}")


def told(dropped: Counter[str]) -> str:
    """The counts of what was dropped, as the end of a sentence; empty if nothing was."""
    return f" (dropped: {', '.join(f'{n:,} {reason}' for reason, n in dropped.most_common())})" if dropped else ""


def reporter(progress: Progress, name: str, inputs: Sequence[Input], unit: str) -> Callable[[int], None]:
    """A function that sets a new progress bar to a number of bytes of the inputs."""
    bar = progress.add_task(name, total=sum(map(size_of, inputs)) // MEGABYTE, unit=unit)
    return lambda num_bytes: progress.update(bar, completed=num_bytes // MEGABYTE)


def main() -> None:
    """Run the command line."""
    options = parse_arguments()
    check(options)
    corpus = Corpus.load(options.corpus, needs_tokenizer=False) if options.corpus else None
    for warning in corpus.warnings if corpus else ():
        warn(warning)
    inputs = corpus.inputs if corpus else file_inputs(options.input)
    alpha = DEFAULT_ALPHA if options.alpha is None else options.alpha
    check_output_directory(options.output, [path for item in inputs for path in item.paths])
    with atomic_directory(options.output, made_by=COMMAND, overwrite=options.overwrite) as directory:
        start = time.monotonic()
        counts = LineCounts()
        with progress_bar() as progress:
            # The first pass makes the sample reproducible, and finds problems of the files before the training.
            deque(training_lines(inputs, counts, reporter(progress, "counting", inputs, "MB")), maxlen=0)
            check_has_lines(counts)
            num_drawn = allocate(counts.num_lines, alpha, options.max_sentences)
            num_used, num_lines = sum(num_drawn.values()), sum(counts.num_lines.values())
            report = reporter(progress, "training", inputs, f"MB read, {num_used:,} lines")
            again = training_lines(inputs, LineCounts(), report)
            watched = Watched(every=1 + num_used // NUM_CHECKED_LINES)
            lines = watched.lines(drawn(again, counts.num_lines, num_drawn, options.seed))
            model = train_model(lines, options.vocab_size, options.character_coverage)
        encoder = write_tokenizer(model, directory, watched.sample)
        assert encoder.vocab_size == options.vocab_size, (encoder.vocab_size, options.vocab_size)
    if corpus:
        print("\n".join(language_table(counts.num_lines, num_drawn, watched.characters, encoder)))
        if num_used == num_lines:
            print("all lines are used, so --alpha changes nothing; a smaller --max-sentences smooths the languages")
    all_characters = sum(watched.characters.values(), Counter())
    if lost := lost_characters(all_characters, encoder):
        loss = describe_loss(lost, all_characters.total())
        print(f"{loss}: characters that become <unk>; a higher --character-coverage keeps them")
    num_files = sum(len(item.paths) for item in inputs)
    skipped = f", {counts.num_too_long:,} lines over {MAX_LINE_BYTES:,} bytes skipped" if counts.num_too_long else ""
    skipped += told(counts.dropped)
    print(
        f"{options.output}: {options.vocab_size:,} pieces from {num_used:,} of {num_lines:,} lines "
        f"({counts.num_bytes / MEGABYTE:.1f} MB) of {num_files:,} files{skipped}, {time.monotonic() - start:.0f} s"
    )


if __name__ == "__main__":
    run_main(main)
