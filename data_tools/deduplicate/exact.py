"""Equal units of a language or pair: of those with the same ids (and unknown text), the first one stays.

First in this order: held-out units before those for training, then by task, shard and position. So no held-out unit of
the language or pair is trained on; others are not looked at. All files lie in WORK, a directory of that language or
pair alone:

    signatures/train.000007.00001    write_signatures, one task of encoding (here 7, shard 1)
    duplicates/00000                 find_duplicates, one bucket: an equal part of the range of hashes

A signature file of n units holds n hashes (u64, ascending), then their n positions in the shard (u32, ascending where
hashes are equal). A file of duplicates holds K (u64), the K keys of the signature files that were read (u64), K + 1
bounds (u64) and positions (u32): those between bounds k and k + 1 are what goes from shard k.
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


def write_signatures(task: EncodedTask, work: Path, settings: Deduplication) -> None:
    """Nothing; writes the hashes of the units of one task, a file for each shard.

    Units of near-duplicate documents are left out: they go anyway, and what is equal to them may stay.
    """
    near_duplicates = near_duplicate_units(task, work) if settings.minhash_of(task.languages) else {}
    for split, number in task.numbers():
        hashes = unit_hashes(task.shards(split, number), task.records(split, number))
        positions = np.arange(len(hashes))
        if (split, number) in near_duplicates:
            positions = np.flatnonzero(~near_duplicates[split, number])
        hashes = hashes[positions]
        order = np.argsort(hashes, kind="stable")
        path = work / "signatures" / _file_name(split, task.index, number)
        _write(path, hashes[order].astype("<u8"), positions[order].astype("<u4"))


def find_duplicates(tasks: Sequence[EncodedTask], work: Path, bucket: int, num_buckets: int) -> None:
    """Nothing; writes all units but the first of each hash in one of `num_buckets` equal parts of the range of hashes.

    `tasks` are all of this language or pair. Memory: about 40 bytes for each unit of the bucket.
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
    order = np.argsort(hashes, kind="stable")  # equal ones keep the order of the files
    hashes = hashes[order]
    repeated = np.sort(order[1:][hashes[1:] == hashes[:-1]])
    bounds = np.searchsorted(repeated, [0, *ends])
    header = np.array([len(files), *(key for key, _ in files), *bounds], dtype="<u8")
    _write(work / "duplicates" / f"{bucket:05d}", header, positions[repeated])


def duplicate_units(task: EncodedTask, work: Path, num_buckets: int) -> dict[tuple[str, int], np.ndarray]:
    """{(split, shard): bool (units,)}: which units of a task go, from the files of all buckets."""
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
            for (split, number), goes in units.items():
                key = _key(split, task.index, number)
                k = int(np.searchsorted(keys, np.uint64(key)))
                assert k < num_files and int(keys[k]) == key, f"{path}: {task} was not looked at"
                file.seek(start + 4 * bounds[k])
                goes[np.fromfile(file, dtype="<u4", count=bounds[k + 1] - bounds[k])] = True
    return units


def _key(split: str, task_index: int, number: int) -> int:
    """The place of a shard in the order in which equal units stay, as 64 bits."""
    assert task_index < 1 << 32 and number < 1 << 24
    return SPLITS.index(split) << 56 | task_index << 24 | number


def _file_name(split: str, task_index: int, number: int) -> str:
    return f"{split}.{task_index:06d}.{number:05d}"


def _write(path: Path, *arrays: np.ndarray) -> None:
    """Nothing; the file is the bytes of the arrays, one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, named_errors(path), open(temporary, "wb") as file:
        for array in arrays:
            file.write(array.data)


def _read_range(path: Path, bucket: int, num_buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """(hashes u64, positions u32) of a signature file that belong to a bucket; little else of the file is read."""
    words = map_file(path, np.dtype("<u4"))
    num_units, remainder = divmod(len(words), 3)
    assert remainder == 0, f"{path}: not whole"
    hashes, positions = words[: 2 * num_units].view("<u8"), words[2 * num_units :]
    low, high = (
        num_units if bound == 1 << 64 else int(np.searchsorted(hashes, np.uint64(bound)))
        for bound in ((bucket << 64) // num_buckets, ((bucket + 1) << 64) // num_buckets)
    )
    return hashes[low:high].copy(), positions[low:high].copy()
