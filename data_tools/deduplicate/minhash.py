"""Near-duplicate documents of a language, found by datatrove's MinHash blocks on tokens instead of words.

Shingles are n-grams of ids (of hashes of the text for unknown pieces), which works for every language, while words
would need a word tokenizer for each. One document of each cluster of near-duplicates stays, and none if the cluster has
a document similar to a held-out one: that would be training on the evaluation data. Documents of fewer than n tokens
are not compared.

All files of a language are in `WORK/minhash`, where WORK is a directory for that language alone:

    train/bucket_000/00007.minhash.sig    by write_document_signatures, for one task of encoding (here 7)
    valid/bucket_000/00007.minhash.sig
    matches/00000_00.dups                 by match_documents, for one bucket
    removed/000007.remove                 by cluster_documents, for the language
"""

import glob
import os
import resource
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import (
    MinhashBuildIndex,
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupSignature,
)
from datatrove.utils.hashing import HashConfig
from datatrove.utils.word_tokenizers import WhitespaceTokenizer

from data_tools.deduplicate.encoded import SPLITS, EncodedTask
from data_tools.deduplicate.hashing import ngram_hashes, value_blocks
from data_tools.deduplicate.settings import MinhashSettings
from data_tools.files.atomic import sync_file, temporary_path
from data_tools.files.directories import atomic_directory

MERSENNE_PRIME = np.uint64((1 << 61) - 1)
CHUNK_SHINGLES = 128  # times 112 hashes of 8 bytes: below the 128 KB from which malloc asks the system each time
LINES_TO_BUFFER = 256  # signatures read at once from each task's file: thousands of files are open
OTHER_FILES = 100  # that a process has open besides


def write_document_signatures(task: EncodedTask, work: Path, settings: MinhashSettings, unk: int | None) -> None:
    """Write the MinHash signatures of the documents of one task, by bucket; `unk` is the id of unknown pieces."""
    for split in SPLITS:
        with _moved_into(work / "minhash" / split, f"{task.index:05d}") as directory:
            TokenSignature(directory, settings).run(_documents(task, split, settings.ngram, unk), rank=task.index)


def match_documents(tasks: Sequence[EncodedTask], work: Path, bucket: int, settings: MinhashSettings) -> None:
    """Write the pairs of documents that agree in one bucket, for all tasks of the language."""
    signatures, name = work / "minhash", f"bucket_{bucket:03d}"
    for split in SPLITS:
        found = {path.name for path in (signatures / split / name).iterdir()}
        assert found == {f"{task.index:05d}.minhash.sig" for task in tasks}, f"{signatures}: signatures of other tasks"
    _allow_open_files(tasks)
    config = _config(settings)
    with _moved_into(signatures / "matches", name) as matches, TemporaryDirectory(dir=signatures) as index:
        MinhashBuildIndex(
            _folder(signatures / "valid"),
            _folder(Path(index)),
            index_name="valid",
            config=config,
            lines_to_buffer=LINES_TO_BUFFER,
        ).run(None, bucket, settings.num_buckets)
        MinhashDedupBuckets(
            _folder(signatures / "train"),
            _folder(matches),
            index_folder=_folder(Path(index)),
            config=config,
            only_dedup_in_index=False,
            lines_to_buffer=LINES_TO_BUFFER,
        ).run(None, bucket, settings.num_buckets)


def cluster_documents(tasks: Sequence[EncodedTask], work: Path, settings: MinhashSettings) -> None:
    """Write which documents of each task are removed, from the matches of all buckets, for the whole language.

    Memory: about 500 bytes per document that has a near-duplicate.
    """
    _allow_open_files(tasks)
    matches = work / "minhash" / "matches"
    found = sorted(path.name for path in matches.iterdir() if path.suffix == ".dups")
    assert found == [f"{bucket:05d}_00.dups" for bucket in range(settings.num_buckets)], f"{matches}: other buckets"
    shutil.rmtree(work / "minhash" / "removed", ignore_errors=True)  # of a run that was killed
    with (
        atomic_directory(work / "minhash" / "removed") as removed,
        open(os.devnull, "w") as nowhere,
        redirect_stderr(nowhere),  # of datatrove's progress bar
    ):
        MinhashDedupCluster(
            _folder(matches), _folder(removed), config=_config(settings), lines_to_buffer=LINES_TO_BUFFER
        ).run()


def near_duplicate_units(task: EncodedTask, work: Path) -> dict[tuple[str, int], np.ndarray]:
    """{("train", shard): bool (units,)}: which units of a task belong to documents that are removed."""
    removed = work / "minhash" / "removed"
    assert removed.is_dir(), f"{removed}: cluster_documents has not run"
    path = removed / f"{task.index:06d}.remove"
    documents = np.fromfile(path, dtype="<u4") if path.exists() else np.zeros(0, dtype="<u4")
    units = {}
    first = 0
    for number in range(len(task.train)):
        (shard,) = task.shards("train", number)
        is_removed = np.zeros(shard.num_documents, dtype=bool)
        is_removed[documents[(documents >= first) & (documents < first + len(is_removed))] - first] = True
        units["train", number] = np.repeat(is_removed, np.diff(shard.documents))
        first += len(is_removed)
    return units


class TokenSignature(MinhashDedupSignature):
    """datatrove's signature block for documents whose `text` is the array of their shingles (n,), uint64."""

    def __init__(self, output: Path, settings: MinhashSettings) -> None:
        # The base class requires a word tokenizer, which is never used; this one needs no further package.
        super().__init__(_folder(output), _config(settings), language=WhitespaceTokenizer())

    def get_shingles(self, text: np.ndarray) -> np.ndarray:
        """uint64 (n, 1): the shingles, hashed already; to hash them per document would take three times as long."""
        return text.reshape(-1, 1)

    def get_signature(self, shingles: np.ndarray) -> list[list[int]]:
        """The hashes of each bucket, the same numbers that the base class computes.

        That needs 900 bytes per shingle, hence the chunks. The remainder modulo 2^61 - 1 is four times as fast by
        shifts: 2^61 leaves 1, so x = high * 2^61 + low is congruent to high + low, where high is at most 7.
        """
        a, b = (parameter.T for parameter in self.parameters)
        smallest = np.full(self.num_hashes, MERSENNE_PRIME)
        for start in range(0, len(shingles), CHUNK_SHINGLES):
            values = a * shingles[start : start + CHUNK_SHINGLES].T
            values += b
            high = values >> np.uint64(61)
            values &= MERSENNE_PRIME
            values += high
            np.subtract(values, MERSENNE_PRIME, out=high)  # wraps around to a huge number where values are smaller
            np.minimum(values, high, out=values)
            np.minimum(smallest, values.min(axis=1), out=smallest)
        rows: list[list[int]] = smallest.reshape(self.config.num_buckets, -1).tolist()
        return rows


def _config(settings: MinhashSettings) -> MinhashConfig:
    # The hash function is not used; one of Python's own needs no further package.
    return MinhashConfig(
        n_grams=settings.ngram,
        num_buckets=settings.num_buckets,
        hashes_per_bucket=settings.hashes_per_bucket,
        hash_config=HashConfig(precision=64, hash_fc="sha1"),
    )


def _folder(path: Path) -> str:
    """`path` for datatrove; raises ValueError for one that datatrove would take for a glob, matching nothing."""
    if glob.has_magic(str(path)):
        raise ValueError(f"{path}: deduplicate: minhash: needs a directory without *, ? or [ in its name")
    return str(path.absolute())


def _documents(task: EncodedTask, split: str, ngram: int, unk: int | None) -> Iterator[Document]:
    """The documents of a split in order; their `text` is the hashes of their n-grams of tokens, uint64 (n,)."""
    for number in range(len(task.prefixes(split))):
        (shard,), (records,) = task.shards(split, number), task.records(split, number)
        lengths = np.add.reduceat(shard.lengths, shard.documents[:-1], dtype=np.int64)
        for documents, values in value_blocks(shard.tokens, lengths, records, unk):
            hashes = ngram_hashes(values, ngram)
            start = 0
            for length in lengths[documents].tolist():
                yield Document(text=hashes[start : start + max(0, length - ngram + 1)], id="")
                start += length


@contextmanager
def _moved_into(directory: Path, name: str) -> Iterator[Path]:
    """A fresh directory; on a clean exit its files are moved into `directory`, which other tasks fill as well."""
    directory.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(directory / name)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for path in sorted(temporary.rglob("*")):
            target = directory / path.relative_to(temporary)
            if path.is_dir():
                target.mkdir(exist_ok=True)
            else:
                sync_file(path)
                os.replace(path, target)
    finally:
        shutil.rmtree(temporary)


def check_open_files(name: str, num_tasks: int) -> None:
    """Raise ValueError if the system does not let a process open the files of all tasks of `name`, such as mono/de."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _num_files(num_tasks):
        raise ValueError(
            f"deduplicate: minhash: {name}: {_num_files(num_tasks):,} files must be open at once, but the system "
            f"allows {hard:,}; raise its limit (ulimit -Hn)"
        )


def _allow_open_files(tasks: Sequence[EncodedTask]) -> None:
    """Let this process open the files of all tasks of a language; raises ValueError if the system forbids it."""
    check_open_files(tasks[0].name, len(tasks))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _num_files(len(tasks)):
        resource.setrlimit(resource.RLIMIT_NOFILE, (_num_files(len(tasks)), hard))


def _num_files(num_tasks: int) -> int:
    return 2 * num_tasks + OTHER_FILES  # signatures of both splits
