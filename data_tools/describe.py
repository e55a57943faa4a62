"""What a data directory holds: `python -m data_tools.describe DATA [--verify] [--samples N]`."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from data_tools.cli import progress_bar, run_main
from data_tools.files import sha256_of
from data_tools.shards import Manifest, Shard, ShardInfo, shard_path
from data_tools.tokenizer import PieceEncoder

ALPHA = 0.5  # VECO (ACL 2021), appendix: languages are drawn with probability proportional to n^0.5
# Wide enough for the table where the output is no terminal (a log, a pipe), which rich would take for 80 columns.
LOG_WIDTH = 120


@dataclass(frozen=True)
class Row:
    """The counts of one language or language pair. Tokens of a pair: of both sides."""

    name: str
    num_shards: int
    num_documents: int | None
    num_sentences: int
    num_tokens: int
    dropped: dict[str, int]


def mono_rows(manifest: Manifest) -> list[Row]:
    """One row a language."""
    return [
        Row(
            name=language,
            num_shards=len(shards),
            num_documents=sum(shard.num_documents for shard in shards),
            num_sentences=sum(shard.num_sequences for shard in shards),
            num_tokens=sum(shard.num_tokens for shard in shards),
            dropped=manifest.dropped.get(f"mono/{language}", {}),
        )
        for language, shards in manifest.mono.items()
    ]


def parallel_rows(manifest: Manifest) -> list[Row]:
    """One row a language pair."""
    return [
        Row(
            name=pair,
            num_shards=len(shards),
            num_documents=None,
            num_sentences=sum(next(iter(sides.values())).num_sequences for sides in shards),
            num_tokens=sum(info.num_tokens for sides in shards for info in sides.values()),
            dropped=manifest.dropped.get(f"parallel/{pair}", {}),
        )
        for pair, shards in manifest.parallel.items()
    ]


def sampling_probabilities(counts: list[int], alpha: float) -> list[float]:
    """n^alpha over its sum, for each count n; they sum to 1."""
    weights = np.asarray(counts, dtype=np.float64) ** alpha
    return [float(weight) for weight in weights / weights.sum()]


def rows_table(title: str, rows: list[Row], alpha: float) -> Table:
    """A table of rows and their total; documents only where there are some."""
    with_documents = rows[0].num_documents is not None
    table = Table(title=title, title_justify="left")
    table.add_column("language" if with_documents else "pair")
    headers = ["shards", *(["documents"] if with_documents else []), "sentences" if with_documents else "pairs"]
    for header in [*headers, "tokens", f"p at α {alpha:g}"]:
        table.add_column(header, justify="right")
    table.add_column("dropped")
    probabilities = sampling_probabilities([row.num_sentences for row in rows], alpha)
    for row, probability in zip(rows, probabilities, strict=True):
        documents = [] if row.num_documents is None else [f"{row.num_documents:,}"]
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(row.dropped.items()))
        counts = [f"{row.num_sentences:,}", f"{row.num_tokens:,}", f"{probability:.4f}"]
        table.add_row(row.name, f"{row.num_shards:,}", *documents, *counts, reasons)
    documents = [f"{sum(row.num_documents or 0 for row in rows):,}"] if with_documents else []
    table.add_section()
    table.add_row(
        "total",
        f"{sum(row.num_shards for row in rows):,}",
        *documents,
        f"{sum(row.num_sentences for row in rows):,}",
        f"{sum(row.num_tokens for row in rows):,}",
        f"{sum(probabilities):.4f}",
        "",
    )
    return table


def print_tables(manifest: Manifest, alpha: float = ALPHA) -> int:
    """All tokens; prints a table of the languages and one of the pairs."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=LOG_WIDTH)
    num_tokens = 0
    for title, rows in (("monolingual", mono_rows(manifest)), ("parallel", parallel_rows(manifest))):
        if rows:
            # Through print: rich itself would exit with an error when the reader has left (`describe … | head`).
            with console.capture() as captured:
                console.print(rows_table(title, rows, alpha))
            print(captured.get(), end="")
            num_tokens += sum(row.num_tokens for row in rows)
    return num_tokens


def verify_shard(data_dir: Path, info: ShardInfo, vocab_size: int) -> None:
    """Nothing; raises ValueError if a shard is not, byte for byte and count for count, what the manifest says."""
    prefix = data_dir / info.prefix
    for suffix, expected in (("bin", info.bin_sha256), ("idx", info.idx_sha256)):
        path = shard_path(prefix, suffix)
        if not path.is_file():
            raise ValueError(f"{path}: no such file, but the manifest lists it; run data_tools.prepare again")
        found = sha256_of(path)
        if found != expected:
            raise ValueError(
                f"{path}: its sha256 is {found[:12]}…, the manifest says {expected[:12]}…; it was changed after it was "
                "written: remove the directory and run data_tools.prepare again"
            )
    shard = Shard(prefix)
    shard.check(vocab_size)
    found_counts = (shard.num_sequences, shard.num_documents, shard.num_tokens)
    expected_counts = (info.num_sequences, info.num_documents, info.num_tokens)
    if found_counts != expected_counts:
        raise ValueError(f"{prefix}: sequences, documents, tokens {found_counts}, the manifest says {expected_counts}")
    shard.close()


def verify(data_dir: Path, manifest: Manifest) -> int:
    """The number of shards, after checking all of them, the pair counts and the tokenizer; raises ValueError."""
    encoder = PieceEncoder(data_dir / "tokenizer")
    if encoder.tokenizer_sha256 != manifest.tokenizer_sha256 or encoder.vocab_size != manifest.vocab_size:
        raise ValueError(
            f"{data_dir / 'tokenizer'}: {encoder.vocab_size:,} pieces, sha256 {encoder.tokenizer_sha256[:12]}…; the "
            f"shards were made with {manifest.vocab_size:,} pieces, {manifest.tokenizer_sha256[:12]}…"
        )
    infos = [info for shards in manifest.mono.values() for info in shards]
    for pair, shards in manifest.parallel.items():
        for sides in shards:
            counts = {info.prefix: info.num_sequences for info in sides.values()}
            if set(sides) != set(pair.split("-")) or len(set(counts.values())) != 1:
                raise ValueError(f"{data_dir}: the sides of {pair} differ in their number of sentences: {counts}")
            infos.extend(sides.values())
    with progress_bar() as progress:
        bar = progress.add_task("verifying", total=len(infos), unit="shards")
        for info in infos:
            verify_shard(data_dir, info, manifest.vocab_size)
            progress.advance(bar)
    return len(infos)


def print_samples(data_dir: Path, manifest: Manifest, num_samples: int) -> None:
    """Nothing; prints sentences and pairs spread evenly over the first shard of each language and pair, decoded."""
    encoder = PieceEncoder(data_dir / "tokenizer")
    groups = {f"mono/{language}": [shards[0]] for language, shards in manifest.mono.items()}
    groups |= {f"parallel/{pair}": list(shards[0].values()) for pair, shards in manifest.parallel.items()}
    for name, infos in groups.items():
        print(f"\n{name}")
        sides = [Shard(data_dir / info.prefix) for info in infos]
        for i in np.unique(np.linspace(0, len(sides[0]) - 1, num_samples).astype(int)):
            print(f"  {i:>9,}  " + "\n             ".join(encoder.decode(side[i]) for side in sides))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.describe", description="Prints the languages of a data directory and their counts."
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="a directory made by data_tools.prepare")
    parser.add_argument(
        "--verify", action="store_true", help="read everything: checksums, headers, offsets, pair counts, range of ids"
    )
    parser.add_argument("--samples", type=int, default=0, metavar="N", help="decode N sentences of each")
    parser.add_argument(
        "--alpha", type=float, default=ALPHA, help="smoothing of the sampling probability n^α (default %(default)s)"
    )
    return parser.parse_args()


def main() -> None:
    """Nothing; the command line."""
    options = parse_arguments()
    if options.samples < 0:
        raise ValueError(f"--samples {options.samples}: expected 0 or more")
    manifest = Manifest.load(options.data)
    print_tables(manifest, options.alpha)
    print(f"vocabulary {manifest.vocab_size:,}, fingerprint {manifest.fingerprint}")
    if options.samples:
        print_samples(options.data, manifest, options.samples)
    if options.verify:
        print(f"{verify(options.data, manifest):,} shards verified: all as the manifest says")


if __name__ == "__main__":
    run_main(main)
