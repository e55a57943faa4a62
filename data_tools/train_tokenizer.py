"""Train a tokenizer on text: `python -m data_tools.train_tokenizer --help`.

The result is a directory with `tokenizer.json` and `tokenizer_config.json` (read by AutoTokenizer) and, for a unigram
model with XLM-R's special ids, `sentencepiece.bpe.model` (read by data_tools, which encodes five to ten times as fast
with it). WordPiece and byte-level BPE are described in data_tools.tokenizers.json_training. Equal text, options and
versions of the libraries give equal bytes.

The text is that of files, or all text of a CORPUS.yaml, whose languages are then smoothed (see
data_tools.tokenizers.training_sample); a table shows the lines of each. `filters`, `deduplicate` and `valid` of the
corpus do not apply.

Characters beyond `--character-coverage` get no piece and become <unk>: the rarest of all text, whatever their language.
With 99.95 % of German, English and French these include ï, Á and À, and a language with little text in a script of its
own may lose its letters. So the command prints which share of each language was lost, and which characters. Byte-level
BPE loses none.
"""

import argparse
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unicodedata import combining, normalize

import numpy as np
from rich.progress import Progress

from data_tools.cli import FlagParser, progress_bar, run_main, warn
from data_tools.corpus.configuration import Corpus
from data_tools.corpus.inputs import Input, files_named_twice, plain_input
from data_tools.files.directories import atomic_directory
from data_tools.files.locations import check_can_be_read_again, expand
from data_tools.files.outputs import check_output_directory
from data_tools.readers import size_of
from data_tools.tokenizers.encoder import Encoder
from data_tools.tokenizers.files import write_tokenizer
from data_tools.tokenizers.json_training import (
    BERT_TOKENS,
    ENDS,
    ROBERTA_TOKENS,
    train_byte_level,
    train_word_piece,
    word_piece,
    write_json_tokenizer,
)
from data_tools.tokenizers.sentence_piece import FIRST_PIECE_ID
from data_tools.tokenizers.training_sample import MAX_LINE_BYTES, LineCounts, allocate, drawn, training_lines
from data_tools.tokenizers.unigram_training import train_model

COMMAND = "data_tools.train_tokenizer"
MEGABYTE = 1_000_000
NUM_CHECKED_LINES = 200
NUM_SHOWN_CHARACTERS = 8
DEFAULT_ALPHA = 0.3  # XLM-R's
DEFAULT_COVERAGE = 0.9995  # XLM-R's
UNIGRAM, BPE, WORDPIECE = "unigram", "bpe", "wordpiece"
ANY_LANGUAGE = "all"  # the language of files without a corpus


@dataclass
class Watched:
    """Records of the lines that a tokenizer is trained on: their characters by language, and every n-th line.

    Characters are counted after `normalized`, as the tokenizer sees them.
    """

    every: int
    normalized: Callable[[str], str]
    characters: dict[str, Counter[str]] = field(default_factory=dict)
    sample: list[str] = field(default_factory=list)

    def lines(self, lines: Iterable[tuple[str, str]]) -> Iterator[str]:
        """The lines of (language, line)."""
        for number, (language, line) in enumerate(lines):
            self.characters.setdefault(language, Counter()).update(self.normalized(line))
            if number % self.every == 0:
                self.sample.append(line)
            yield line


def lost_characters(characters: Counter[str], encoder: Encoder) -> Counter[str]:
    """The counts of those characters that become the unknown piece."""
    ids, lengths = encoder.encode_flat(list(characters))
    lost = np.unique(np.repeat(np.arange(len(lengths)), lengths)[encoder.special.are_unknown(ids)])
    in_order = list(characters.items())
    return Counter(dict(in_order[i] for i in lost.tolist()))


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
    encoder: Encoder,
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
        description="Train a tokenizer. unigram: SentencePiece's in XLM-R's layout, <s> 0, <pad> 1, </s> 2, <unk> 3, "
        "<mask> last, nmt_nfkc normalisation, no byte fallback. bpe: byte-level as RoBERTa's, in the same layout, no "
        "unknown text. wordpiece: as BERT's, [PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4. data_tools encodes five "
        "to ten times as fast with unigram as with the others.",
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
    parser.add_argument(
        "--model", choices=(UNIGRAM, BPE, WORDPIECE), default=UNIGRAM, help="kind of model (default %(default)s)"
    )
    parser.add_argument(
        "--lowercase",
        action="store_true",
        help="with --model wordpiece: make all letters small and take their accents away, as BERT's uncased tokenizers",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="TOKENIZER", help="the directory to make")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output directory if this command made everything in it"
    )
    parser.add_argument(
        "--character-coverage",
        type=float,
        metavar="SHARE",
        help="share of the text's characters that get a piece; the rarest become <unk>, and are printed (default "
        f"{DEFAULT_COVERAGE}, XLM-R's); not with bpe, where all do",
    )
    parser.add_argument(
        "--max-sentences",
        type=int,
        default=5_000_000,
        metavar="M",
        help="train on a random sample of M lines if there are more; held in memory (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of that sample (default %(default)s)")
    options = parser.parse_args()
    check(options)
    return options


def check(options: argparse.Namespace) -> None:
    """Raise ValueError for invalid options."""
    if options.vocab_size <= FIRST_PIECE_ID + 1:
        raise ValueError(f"--vocab-size {options.vocab_size}: expected more than the five special ids")
    if options.lowercase and options.model != WORDPIECE:
        raise ValueError(f"--lowercase: only --model {WORDPIECE} can do so, found {options.model}")
    if options.character_coverage is not None and options.model == BPE:
        raise ValueError("--character-coverage: --model bpe has pieces for all characters; leave it out")
    if options.character_coverage is not None and not 0 < options.character_coverage <= 1:
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


def written(
    source: bytes | list[str], options: argparse.Namespace, coverage: float, watched: Watched, directory: Path
) -> Encoder:
    """Write the tokenizer of a SentencePiece model, or of one that is trained on lines, to a directory."""
    if isinstance(source, bytes):
        return write_tokenizer(source, directory, watched.sample)
    if options.model == WORDPIECE:
        characters = sum(watched.characters.values(), Counter())
        trained = train_word_piece(source, characters, options.vocab_size, coverage, options.lowercase)
        return write_json_tokenizer(trained, BERT_TOKENS, directory)
    return write_json_tokenizer(train_byte_level(source, options.vocab_size), ROBERTA_TOKENS | ENDS, directory)


def main() -> None:
    """Run the command line."""
    options = parse_arguments()
    corpus = Corpus.load(options.corpus, needs_tokenizer=False) if options.corpus else None
    for warning in corpus.warnings if corpus else ():
        warn(warning)
    inputs = corpus.inputs if corpus else file_inputs(options.input)
    alpha = DEFAULT_ALPHA if options.alpha is None else options.alpha
    coverage = DEFAULT_COVERAGE if options.character_coverage is None else options.character_coverage
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
            normalizer = word_piece(options.lowercase).normalizer
            normalized = normalizer.normalize_str if options.model == WORDPIECE else partial(normalize, "NFKC")
            watched = Watched(1 + num_used // NUM_CHECKED_LINES, normalized)
            lines = watched.lines(drawn(again, counts.num_lines, num_drawn, options.seed))
            # SentencePiece reads lines one by one, and holds them; the others are given them, and show their own bars.
            source = train_model(lines, options.vocab_size, coverage) if options.model == UNIGRAM else list(lines)
        encoder = written(source, options, coverage, watched, directory)
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
