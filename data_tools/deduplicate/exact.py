"""Exact deduplication of a language or pair: of units with the same ids (and unknown text) only the first one stays.

The order is: held-out units before training units, then by task, shard and position. So no held-out unit of the
language or pair is trained on; other languages and pairs are not compared. All files are in WORK, a directory for that
language or pair alone:

    signatures/train.000007.00001    by write_signatures, for one task of encoding (here 7, shard 1)
    duplicates/00000                 by find_duplicates, for one bucket: an equal part of the range of hashes

A signature file of n units holds n hashes (u64, ascending), then their n positions in the shard (u32, ascending where
hashes are equal). A file of duplicates holds K (u64), the K keys of the signature files that were read (u64), K + 1
bounds (u64) and positions (u32): those between bounds k and k + 1 are removed from shard k.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_tools.deduplicate.encoded import SPLITS, EncodedTask
from data_tools.deduplicate.hashing import unit_hashes
from data_tools.deduplicate.minhash import near_duplicate_units
from data_tools.deduplicate.settings import Deduplication
from data_tools.files.atomic import atomic_path, named_errors
from data_tools.files.memory_maps import map_file


def write_signatures(task: EncodedTask, work: Path, settings: Deduplication, unk: int | None) -> None:
    """Write the hashes of the units of one task, one file per shard.

    Units of near-duplicate documents are skipped: they are removed anyway, and units equal to them may stay. `unk` is
    the id of unknown pieces.
    """
    near_duplicates = near_duplicate_units(task, work) if settings.minhash_of(task.languages) else {}
    for split, number in task.numbers():
        hashes = unit_hashes(task.shards(split, number), task.records(split, number), unk)
        positions = np.arange(len(hashes))
        if (split, number) in near_duplicates:
            positions = np.flatnonzero(~near_duplicates[split, number])
        hashes = hashes[positions]
        order = np.argsort(hashes, kind="stable")
        path = work / "signatures" / _file_name(split, task.index, number)
        _write(path, hashes[order].astype("<u8"), positions[order].astype("<u4"))


def find_duplicates(tasks: Sequence[EncodedTask], work: Path, bucket: int, num_buckets: int) -> None:
    """Write all units but the first of each hash, for one of `num_buckets` equal parts of the range of hashes.

    `tasks` are all those of the language or pair. Memory: about 40 bytes per unit of the bucket.
    """
    files = sorted(
        (_key(split, task.index, number), work / "signatures" / _file_name(split, task.index, number))
        for task in tasks
        for split, number in task.numbers()
    )
    parts = [_read_range(path, bucket, num_buckets) for _, path in files]
    hashes = np.concatenate([np.zeros(0, dtype="<u8"), *(part for part, _ in parts)])
    positions = np.concatenate([np.zeros(0, dtype="<u4"), *(part for _, part in parts)])
    ends = np.cumsum([len(part) for part, _ in parts], dtype=np.int64)
    del parts
    order = np.argsort(hashes, kind="stable")  # equal hashes stay in the order of the files
    hashes = hashes[order]
    repeated = np.sort(order[1:][hashes[1:] == hashes[:-1]])
    bounds = np.searchsorted(repeated, [0, *ends])
    header = np.array([len(files), *(key for key, _ in files), *bounds], dtype="<u8")
    _write(work / "duplicates" / f"{bucket:05d}", header, positions[repeated])


def duplicate_units(task: EncodedTask, work: Path, num_buckets: int) -> dict[tuple[str, int], np.ndarray]:
    """{(split, shard): bool (units,)}: which units of a task are removed, from the files of all buckets."""
    units = {
        (split, number): np.zeros(len(task.shards(split, number)[0]), dtype=bool) for split, number in task.numbers()
    }
    for bucket in range(num_buckets):
        path = work / "duplicates" / f"{bucket:05d}"
        with open(path, "rb") as file:
            (num_files,) = np.fromfile(file, dtype="<u8", count=1).tolist()
            keys = np.fromfile(file, dtype="<u8", count=num_files)
            bounds = np.fromfile(file, dtype="<u8", count=num_files + 1).tolist()
            start = file.tell()
            for (split, number), is_removed in units.items():
                key = _key(split, task.index, number)
                k = int(np.searchsorted(keys, np.uint64(key)))
                assert k < num_files and int(keys[k]) == key, f"{path}: {task} was not looked at"
                file.seek(start + 4 * bounds[k])
                is_removed[np.fromfile(file, dtype="<u4", count=bounds[k + 1] - bounds[k])] = True
    return units


def _key(split: str, task_index: int, number: int) -> int:
    """The precedence of a shard among equal units, as 64 bits."""
    assert task_index < 1 << 32 and number < 1 << 24
    return SPLITS.index(split) << 56 | task_index << 24 | number


def _file_name(split: str, task_index: int, number: int) -> str:
    return f"{split}.{task_index:06d}.{number:05d}"


def _write(path: Path, *arrays: np.ndarray) -> None:
    """Write the bytes of the arrays to a file, one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, named_errors(path), open(temporary, "wb") as file:
        for array in arrays:
            file.write(array.data)


def _read_range(path: Path, bucket: int, num_buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """(hashes u64, positions u32) in a signature file that belong to a bucket; little else of the file is read."""
    words = map_file(path, np.dtype("<u4"))
    num_units, remainder = divmod(len(words), 3)
    assert remainder == 0, f"{path}: {len(words)} words are not a multiple of 3"
    hashes, positions = words[: 2 * num_units].view("<u8"), words[2 * num_units :]
    low = int(np.searchsorted(hashes, np.uint64((bucket << 64) // num_buckets)))
    high = num_units  # of the last bucket, whose upper bound, 2^64, has no 64 bits
    if bucket + 1 < num_buckets:
        high = int(np.searchsorted(hashes, np.uint64(((bucket + 1) << 64) // num_buckets)))
    return hashes[low:high].copy(), positions[low:high].copy()
