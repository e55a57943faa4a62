"""Nearly equal documents of a language, found by datatrove's MinHash blocks on tokens instead of words.

Shingles are n-grams of ids (of hashes of the text where pieces are unknown): the same for every language, where words
would need a tokenizer of each. One document of each cluster of near-duplicates stays, and none if the cluster holds a
document like a held-out one: training on that would be training on what is measured with. Documents of fewer than n
tokens are not looked at.

All files of a language lie in `WORK/minhash`, WORK being a directory of that language alone:

    train/bucket_000/00007.minhash.sig    write_document_signatures, one task of encoding (here 7)
    valid/bucket_000/00007.minhash.sig
    matches/00000_00.dups                 match_documents, one bucket
    removed/000007.remove                 cluster_documents, the language
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
CHUNK_SHINGLES = 128  # times 112 hashes of 8 bytes: below the 128 KB for which malloc asks the system each time
LINES_TO_BUFFER = 256  # signatures read at once of each task's file: thousands of files are open
OTHER_FILES = 100  # what a process has open besides


def write_document_signatures(task: EncodedTask, work: Path, settings: MinhashSettings) -> None:
    """Nothing; writes the MinHash signatures of the documents of one task, by bucket."""
    for split in SPLITS:
        with _moved_into(work / "minhash" / split, f"{task.index:05d}") as directory:
            TokenSignature(directory, settings).run(_documents(task, split, settings.ngram), rank=task.index)


def match_documents(tasks: Sequence[EncodedTask], work: Path, bucket: int, settings: MinhashSettings) -> None:
    """Nothing; writes the pairs of documents that agree in one bucket, for all tasks of the language."""
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
    """Nothing; writes which documents of which task go, from the matches of all buckets, for the whole language.

    Memory: about 500 bytes for each document that has a near-duplicate.
    """
    _allow_open_files(tasks)
    matches = work / "minhash" / "matches"
    found = sorted(path.name for path in matches.iterdir() if path.suffix == ".dups")
    assert found == [f"{bucket:05d}_00.dups" for bucket in range(settings.num_buckets)], f"{matches}: other buckets"
    shutil.rmtree(work / "minhash" / "removed", ignore_errors=True)  # of a run that was killed
    with (
        atomic_directory(work / "minhash" / "removed") as removed,
        open(os.devnull, "w") as nowhere,
        redirect_stderr(nowhere),  # datatrove draws a progress bar
    ):
        MinhashDedupCluster(
            _folder(matches), _folder(removed), config=_config(settings), lines_to_buffer=LINES_TO_BUFFER
        ).run()


def near_duplicate_units(task: EncodedTask, work: Path) -> dict[tuple[str, int], np.ndarray]:
    """{("train", shard): bool (units,)}: which units of a task belong to documents that go."""
    removed = work / "minhash" / "removed"
    assert removed.is_dir(), f"{removed}: cluster_documents has not run"
    path = removed / f"{task.index:06d}.remove"
    documents = np.fromfile(path, dtype="<u4") if path.exists() else np.zeros(0, dtype="<u4")
    units = {}
    first = 0
    for number in range(len(task.train)):
        (shard,) = task.shards("train", number)
        goes = np.zeros(shard.num_documents, dtype=bool)
        goes[documents[(documents >= first) & (documents < first + len(goes))] - first] = True
        units["train", number] = np.repeat(goes, np.diff(shard.documents))
        first += len(goes)
    return units


class TokenSignature(MinhashDedupSignature):
    """datatrove's signature block for documents whose `text` is the array of their shingles (n,), uint64."""

    def __init__(self, output: Path, settings: MinhashSettings) -> None:
        # Words are never asked for, but the base class wants a tokenizer of them; this one needs no other package.
        super().__init__(_folder(output), _config(settings), language=WhitespaceTokenizer())

    def get_shingles(self, text: np.ndarray) -> np.ndarray:
        """uint64 (n, 1): the shingles, hashed already; document by document it would take three times as long."""
        return text.reshape(-1, 1)

    def get_signature(self, shingles: np.ndarray) -> list[list[int]]:
        """For each bucket its hashes, the numbers that the base class finds.

        It needs 900 bytes a shingle, so this one goes in chunks; and a remainder by 2^61 - 1 is four times as fast by
        shifts, since 2^61 leaves 1: x = high * 2^61 + low has that of high + low, which is at most 7 too large.
        """
        a, b = (parameter.T for parameter in self.parameters)
        smallest = np.full(self.num_hashes, MERSENNE_PRIME)
        for start in range(0, len(shingles), CHUNK_SHINGLES):
            values = a * shingles[start : start + CHUNK_SHINGLES].T
            values += b
            high = values >> np.uint64(61)
            values &= MERSENNE_PRIME
            values += high
            np.subtract(values, MERSENNE_PRIME, out=high)  # wraps to something huge where values are small enough
            np.minimum(values, high, out=values)
            np.minimum(smallest, values.min(axis=1), out=smallest)
        rows: list[list[int]] = smallest.reshape(self.config.num_buckets, -1).tolist()
        return rows


def _config(settings: MinhashSettings) -> MinhashConfig:
    # The hash function itself is not used; naming one that Python has spares a package.
    return MinhashConfig(
        n_grams=settings.ngram,
        num_buckets=settings.num_buckets,
        hashes_per_bucket=settings.hashes_per_bucket,
        hash_config=HashConfig(precision=64, hash_fc="sha1"),
    )


def _folder(path: Path) -> str:
    """`path` as datatrove takes it; raises ValueError for one that it would take for a pattern, and find nothing."""
    if glob.has_magic(str(path)):
        raise ValueError(f"{path}: deduplicate: minhash: needs a directory without *, ? and [ in its name")
    return str(path.absolute())


def _documents(task: EncodedTask, split: str, ngram: int) -> Iterator[Document]:
    """The documents of a split in order, with the hashes of their n-grams of tokens, uint64 (n,), for text."""
    for number in range(len(task.prefixes(split))):
        (shard,), (records,) = task.shards(split, number), task.records(split, number)
        lengths = np.add.reduceat(shard.lengths, shard.documents[:-1], dtype=np.int64)
        for documents, values in value_blocks(shard.tokens, lengths, records):
            hashes = ngram_hashes(values, ngram)
            start = 0
            for length in lengths[documents].tolist():
                yield Document(text=hashes[start : start + max(0, length - ngram + 1)], id="")
                start += length


@contextmanager
def _moved_into(directory: Path, name: str) -> Iterator[Path]:
    """A fresh directory; on clean exit its files take the same places in `directory`, which others fill as well."""
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
    """Raise ValueError if the system does not let a process have the files of so many tasks of `mono/de` open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _num_files(num_tasks):
        raise ValueError(
            f"deduplicate: minhash: {name}: {_num_files(num_tasks):,} files must be open at once and the system "
            f"allows {hard:,}; raise its limit (ulimit -Hn)"
        )


def _allow_open_files(tasks: Sequence[EncodedTask]) -> None:
    """Let this process have the files of all tasks of a language open; raises ValueError if the system forbids it."""
    check_open_files(tasks[0].name, len(tasks))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _num_files(len(tasks)):
        resource.setrlimit(resource.RLIMIT_NOFILE, (_num_files(len(tasks)), hard))


def _num_files(num_tasks: int) -> int:
    return 2 * num_tasks + OTHER_FILES  # signatures of both splits
