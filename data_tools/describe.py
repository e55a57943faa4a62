"""The content of a data directory: `python -m data_tools.describe DATA [--verify] [--samples N] [--plot FILE.png]`."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from data_tools.cli import FlagParser, first_of, run_main
from data_tools.corpus.language_shares import draw_distribution, sampling_probabilities
from data_tools.shards.format import Shard, ShardInfo
from data_tools.shards.manifest import SPLITS, Manifest
from data_tools.shards.verify import unlisted_files, verify
from data_tools.text.languages import has_spaces
from data_tools.tokenizers.encoder import open_encoder
from data_tools.tokenizers.unknown_pieces import Unknown

T = TypeVar("T")
ALPHA = 0.5  # VECO (ACL 2021), appendix: languages are sampled with probability proportional to n^0.5
REASONS_WIDTH = 48  # the reasons for dropping sentences are wrapped, other columns are not
UNLIMITED = 10_000  # columns of the terminal
NOT_KNOWN = "–"
MAX_UNKNOWN = 0.01  # share of pieces or characters above which to warn


@dataclass(frozen=True)
class LanguageCounts:
    """The counts of one language or language pair; the tokens of a pair are those of both sides.

    `fertility` is tokens per word of each language, None if words are not separated; `unknown` counts unknown pieces,
    None if they were not counted. Both cover the held-out sentences too; apart from `num_held_out`, the other counts
    cover only the training data.
    """

    name: str
    num_shards: int
    num_documents: int
    num_sentences: int
    num_tokens: int
    num_held_out: int
    fertility: tuple[float | None, ...]
    unknown: tuple[Unknown | None, ...]
    dropped: Mapping[str, int]


def rows_of(manifest: Manifest, kind: str) -> list[LanguageCounts]:
    """One row for each language (kind `mono`) or language pair (`parallel`)."""
    train, valid = manifest.corpora("train"), manifest.corpora("valid")
    rows = []
    for name in (name for name in train if name.startswith(f"{kind}/")):
        shards, held_out = train[name], valid.get(name, [])
        languages = name.removeprefix(f"{kind}/").split("-")
        words, unknown = manifest.words.get(name, {}), manifest.unknown.get(name, {})
        rows.append(
            LanguageCounts(
                name=name.removeprefix(f"{kind}/"),
                num_shards=len(shards),
                num_documents=sum(sides[languages[0]].num_documents for sides in shards),
                num_sentences=sum(sides[languages[0]].num_sequences for sides in shards),
                num_tokens=sum(num_tokens(shards, language) for language in languages),
                num_held_out=sum(sides[languages[0]].num_sequences for sides in held_out),
                fertility=tuple(
                    fertility(language, num_tokens([*shards, *held_out], language), words.get(language, 0))
                    for language in languages
                ),
                unknown=tuple(unknown.get(language) for language in languages),
                dropped=manifest.dropped.get(name, {}),
            )
        )
    return rows


def num_tokens(shards: list[dict[str, ShardInfo]], language: str) -> int:
    return sum(sides[language].num_tokens for sides in shards)


def fertility(language: str, num_tokens: int, num_words: int) -> float | None:
    """Tokens per word; None without words, and for languages written without spaces between words."""
    return num_tokens / num_words if num_words and has_spaces(language) else None


def total_row(rows: list[LanguageCounts]) -> LanguageCounts:
    """The sums of all rows."""
    return LanguageCounts(
        name="total",
        num_shards=sum(row.num_shards for row in rows),
        num_documents=sum(row.num_documents for row in rows),
        num_sentences=sum(row.num_sentences for row in rows),
        num_tokens=sum(row.num_tokens for row in rows),
        num_held_out=sum(row.num_held_out for row in rows),
        fertility=(),
        unknown=(),
        dropped=sum((Counter(row.dropped) for row in rows), Counter()),
    )


def rows_table(kind: str, rows: list[LanguageCounts], alpha: float) -> Table:
    """A table of rows and their total, with documents only of single languages, and held-out sentences if any."""
    is_mono = kind == "mono"
    probabilities = sampling_probabilities([row.num_sentences for row in rows], alpha)
    probabilities.append(sum(probabilities))
    rows = [*rows, total_row(rows)]
    columns = {
        "language" if is_mono else "pair": [row.name for row in rows],
        "shards": [f"{row.num_shards:,}" for row in rows],
        "documents": [f"{row.num_documents:,}" for row in rows],
        "sentences" if is_mono else "pairs": [f"{row.num_sentences:,}" for row in rows],
        "tokens": [f"{row.num_tokens:,}" for row in rows],
        f"p at α {alpha:g}": [f"{probability:.4f}" for probability in probabilities],
        "tokens/word": [side_by_side(row.fertility, "{:.2f}".format) for row in rows],
        "unknown": [side_by_side(row.unknown, lambda side: percent(side.piece_share)) for row in rows],
        "of characters": [side_by_side(row.unknown, lambda side: percent(side.character_share)) for row in rows],
        "held out": [f"{row.num_held_out:,}" for row in rows],
        "dropped": [
            ", ".join(f"{count:,} {reason}" for reason, count in Counter(row.dropped).most_common()) for row in rows
        ],
    }
    if not is_mono:
        del columns["documents"]
    if rows[-1].num_held_out == 0:
        del columns["held out"]
    if all(unknown is None for row in rows for unknown in row.unknown):
        del columns["unknown"], columns["of characters"]
    table = Table(title="monolingual" if is_mono else "parallel", title_justify="left", box=box.SIMPLE_HEAD)
    name, *numbers, reasons = columns
    table.add_column(name, no_wrap=True)
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    table.add_column(reasons, max_width=REASONS_WIDTH)
    *body, total = zip(*columns.values(), strict=True)
    for cells in body:
        table.add_row(*cells)
    table.add_section()
    table.add_row(*total)
    return table


def side_by_side(sides: Iterable[T | None], shown: Callable[[T], str]) -> str:
    """A cell with the values of one or two languages."""
    return " / ".join(NOT_KNOWN if side is None else shown(side) for side in sides)


def print_tables(manifest: Manifest, alpha: float = ALPHA) -> int:
    """Print a table of the languages and one of the pairs; return the number of tokens to train on."""
    num_tokens = 0
    for kind in ("mono", "parallel"):
        rows = rows_of(manifest, kind)
        if rows:
            print_table(rows_table(kind, rows, alpha))
            num_tokens += sum(row.num_tokens for row in rows)
    return num_tokens


def print_unknown(manifest: Manifest) -> None:
    """Print the shares of unknown pieces, and warn of languages with many of them."""
    if not manifest.unknown:
        print("unknown pieces: not counted by the version of data_tools.prepare that made this directory")
        return
    by_language = {language: found for language, found in manifest.unknown_by_language().items() if found.pieces}
    worst = sorted(by_language, key=lambda language: -by_language[language].character_share)
    told = [
        f"{language} {percent(by_language[language].piece_share)} ({percent(by_language[language].character_share)})"
        for language in worst
    ]
    print(f"unknown pieces (characters they cover): {first_of(told) or 'none'}")
    for language in worst:
        found = by_language[language]
        if max(found.piece_share, found.character_share) > MAX_UNKNOWN:
            print(
                f"warning: {language}: {percent(found.piece_share)} of its pieces are unknown to the tokenizer, and "
                f"they cover {percent(found.character_share)} of its characters, which no model will see. Train the "
                "tokenizer on this language too, or with a higher --character-coverage (data_tools.train_tokenizer)",
                file=sys.stderr,
            )


def percent(share: float) -> str:
    """A share in percent, which shows whether something is rare or does not occur."""
    if share == 0:
        return "0"
    return "< 0.01 %" if share < 0.0001 else f"{100 * share:.2f} %"


def print_table(table: Table) -> None:
    """Print a table in its full width: a narrow terminal wraps its lines, but no number is truncated."""
    console = Console(width=UNLIMITED)
    # Through print: rich itself would exit with an error if the reader has gone (`describe … | head`).
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_samples(data_dir: Path, manifest: Manifest, num_samples: int) -> None:
    """Print decoded sentences and pairs to train on, spread evenly over all shards of each language and pair."""
    encoder = open_encoder(data_dir / "tokenizer")
    for name, shards in manifest.corpora("train").items():
        print(f"\n{name}")
        languages = Path(name).name.split("-")
        ends = np.cumsum([sides[languages[0]].num_sequences for sides in shards], dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        for i in np.unique(np.linspace(0, total - 1, min(num_samples, total)).astype(int)):
            which = int(np.searchsorted(ends, i, side="right"))
            sides = [Shard(data_dir / shards[which][language].prefix) for language in languages]
            # i - ends is negative: counted from the end of the shard.
            texts = [encoder.decode(side[int(i - ends[which])]) for side in sides]
            print(f"  {i:>9,}  " + "\n             ".join(texts))


def print_problems(data_dir: Path, manifest: Manifest, num_workers: int) -> None:
    """Verify all shards, warn of files that are not in the manifest, and say so if all is well.

    Raises ValueError otherwise; if there is more than one problem, all are printed first.
    """
    problems = verify(data_dir, manifest, num_workers)
    for path in unlisted_files(data_dir, manifest):
        print(f"warning: {path}: not in the manifest; nothing reads it", file=sys.stderr)
    advice = "copy the damaged files again, or remove the directory and run data_tools.prepare again"
    if len(problems) > 1:
        print(*problems, sep="\n", file=sys.stderr)
        raise ValueError(f"{data_dir}: differs from its manifest, {len(problems):,} problems (above); {advice}")
    if problems:
        raise ValueError(f"{problems[0]}; {advice}")
    num_shards = sum(len(shards) for split in SPLITS for shards in manifest.corpora(split).values())
    print(f"{num_shards:,} shards verified: all as in the manifest")


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(
        prog="python -m data_tools.describe", description="Print the languages of a data directory and their counts."
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="a directory made by data_tools.prepare")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read everything (tokenizer, checksums, headers, offsets, pair counts, range of ids); list all problems",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes for --verify (default: the number of cores, here %(default)s)",
    )
    parser.add_argument(
        "--samples", type=int, default=0, metavar="N", help="print N decoded sentences of each language and pair"
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="plot the languages' shares before and after smoothing"
    )
    parser.add_argument(
        "--alpha", type=float, default=ALPHA, help="exponent of the sampling probabilities n^α (default %(default)s)"
    )
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    options = parse_arguments()
    if options.samples < 0:
        raise ValueError(f"--samples {options.samples}: expected 0 or more")
    if options.workers < 1:
        raise ValueError(f"--workers {options.workers}: expected 1 or more")
    if not 0 <= options.alpha <= 1:
        raise ValueError(f"--alpha {options.alpha}: expected a number in [0, 1]")
    manifest = Manifest.load(options.data)
    print_tables(manifest, options.alpha)
    print_unknown(manifest)
    print(f"vocabulary {manifest.vocab_size:,}, fingerprint {manifest.fingerprint}")
    if options.plot:
        draw_distribution(manifest, options.alpha, options.plot)
        print(f"{options.plot}: written")
    if options.samples:
        print_samples(options.data, manifest, options.samples)
    if options.verify:
        print_problems(options.data, manifest, options.workers)


if __name__ == "__main__":
    run_main(main)
