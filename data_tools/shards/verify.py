"""Verifying that a data directory is, byte for byte and count for count, as in its manifest: `describe --verify`."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from data_tools.cli import one_line, progress_bar
from data_tools.files.atomic import named_errors, sha256_of
from data_tools.shards.format import Shard, ShardInfo, shard_path
from data_tools.shards.manifest import SPLITS, Manifest
from data_tools.stages.worker_pool import run_local
from data_tools.tokenizers.encoder import open_encoder

SHOWN_DIGITS = 12  # of a SHA-256
KINDS = ("mono", "parallel", "valid")


@dataclass(frozen=True)
class ShardCheck:
    """One shard of a corpus (`mono/de`, `parallel/de-en`), and the file to report its problems in."""

    data_dir: Path
    corpus: str
    sides: dict[str, ShardInfo]
    vocab_size: int
    report: Path


def verify(data_dir: Path, manifest: Manifest, num_workers: int) -> list[str]:
    """All problems of a data directory, one line each, in the order of the manifest.

    Reads every byte of train and valid, in `num_workers` processes.
    """
    with TemporaryDirectory() as reports, progress_bar() as progress:
        checks = [
            ShardCheck(data_dir, corpus, sides, manifest.vocab_size, Path(reports) / f"{split}/{corpus}/{number}")
            for split in SPLITS
            for corpus, shards in manifest.corpora(split).items()
            for number, sides in enumerate(shards)
        ]
        bar = progress.add_task("verifying", total=len(checks), unit="shards")
        run_local(check_shard, checks, num_workers, on_done=lambda _: progress.advance(bar), on_poll=lambda _: None)
        problems = [line for check in checks for line in check.report.read_text(encoding="utf-8").splitlines()]
    return [*tokenizer_problems(data_dir, manifest), *problems]


def unlisted_files(data_dir: Path, manifest: Manifest) -> list[Path]:
    """The files among the shards of a data directory that are not in its manifest, sorted."""
    listed = {shard_path(data_dir / info.prefix, suffix) for info in manifest.shards() for suffix in ("bin", "idx")}
    return sorted(
        path for kind in KINDS for path in (data_dir / kind).rglob("*") if path.is_file() and path not in listed
    )


def tokenizer_problems(data_dir: Path, manifest: Manifest) -> list[str]:
    """At most one problem: that `tokenizer/` is not the one the shards were made with."""
    path = data_dir / "tokenizer"
    try:
        encoder = open_encoder(path)
    except (ValueError, OSError) as error:
        return [one_line(error)]
    if (encoder.tokenizer_sha256, encoder.vocab_size) == (manifest.tokenizer_sha256, manifest.vocab_size):
        return []
    return [
        f"{path}: {encoder.vocab_size:,} pieces, sha256 {short(encoder.tokenizer_sha256)}; the shards were made with "
        f"another tokenizer, {manifest.vocab_size:,} pieces, sha256 {short(manifest.tokenizer_sha256)}"
    ]


def check_shard(check: ShardCheck) -> None:
    """Check one shard and write its problems to its report, one line each."""
    problems = []
    lengths = {}
    for info in check.sides.values():
        try:
            side_problems = file_problems(check, info)
            if not side_problems:
                lengths[info.prefix] = checked_length(check, info)
        except (ValueError, OSError) as error:
            side_problems = [one_line(error)]
        problems += side_problems
    if set(check.sides) != set(Path(check.corpus).name.split("-")):
        problems.append(f"{check.data_dir}: {check.corpus} has a shard of {' and '.join(check.sides)} in the manifest")
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{prefix} {length:,}" for prefix, length in lengths.items())
        problems.append(f"{check.data_dir}: the sides of a pair have different numbers of sentences: {counts}")
    check.report.parent.mkdir(parents=True, exist_ok=True)
    check.report.write_text("".join(f"{problem}\n" for problem in problems), encoding="utf-8")


def file_problems(check: ShardCheck, info: ShardInfo) -> list[str]:
    """The differences of the two files of a side from the manifest. Raises OSError if one cannot be read."""
    problems = []
    sizes, hashes = info.file_sizes(check.vocab_size), (info.bin_sha256, info.idx_sha256)
    for suffix, size, sha256 in zip(("bin", "idx"), sizes, hashes, strict=True):
        path = shard_path(check.data_dir / info.prefix, suffix)
        if not path.is_file():
            problems.append(f"{path}: no such file, but the manifest lists it")
        elif (found := path.stat().st_size) != size:
            what = "truncated" if found < size else "too long"
            problems.append(f"{path}: {what}, {found:,} bytes instead of {size:,}")
        else:
            with named_errors(path):
                found_sha256 = sha256_of(path)
            if found_sha256 != sha256:
                problems.append(f"{path}: its bytes have changed, sha256 {short(found_sha256)}, was {short(sha256)}")
    return problems


def checked_length(check: ShardCheck, info: ShardInfo) -> int:
    """The number of sentences of a side; raises ValueError if its content violates the format or the manifest."""
    shard = Shard(check.data_dir / info.prefix)
    shard.check(check.vocab_size)
    found = (shard.num_sequences, shard.num_documents, shard.num_tokens)
    expected = (info.num_sequences, info.num_documents, info.num_tokens)
    if found != expected:
        raise ValueError(f"{shard.prefix}: sequences, documents, tokens {found}, the manifest says {expected}")
    return shard.num_sequences


def short(sha256: str) -> str:
    return f"{sha256[:SHOWN_DIGITS]}…"
