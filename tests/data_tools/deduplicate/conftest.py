"""Encoded tasks written from lists and read back as lists, and a disk without waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_tools.deduplicate.encoded import EncodedTask
from data_tools.shards.format import Shard, ShardWriter

VOCAB_SIZE = 300

# A unit holds one list of ids for each language; shards are lists of documents, documents lists of units.
Unit = tuple[tuple[int, ...], ...]
Shards = Sequence[Sequence[Sequence[Unit]]]
MakeTask = Callable[..., EncodedTask]
ReadBack = Callable[[Path, str, tuple[str, ...]], list[list[list[Unit]]]]


@pytest.fixture(autouse=True, scope="session")
def _no_waiting() -> Iterator[None]:
    """Make fsync do nothing: hundreds of small files are written, and no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def make_task() -> MakeTask:
    """A function (directory, index, languages, valid, train) that writes shards and returns their task."""

    def make(directory: Path, index: int, languages: tuple[str, ...], valid: Shards, train: Shards) -> EncodedTask:
        prefixes: dict[str, list[str]] = {"valid": [], "train": []}
        for split, shards in (("valid", valid), ("train", train)):
            for number, documents in enumerate(shards):
                prefixes[split].append(f"{split}/{number:05d}")
                for side, language in enumerate(languages):
                    name = f"{number:05d}.{language}" if len(languages) == 2 else f"{number:05d}"
                    with ShardWriter(directory / split / name, VOCAB_SIZE) as writer:
                        for document in documents:
                            for unit in document:
                                writer.add_sequence(np.array(unit[side]))
                            writer.end_document()
        return EncodedTask(
            index=index,
            name="mono/de" if len(languages) == 1 else "parallel/de-en",
            languages=languages,
            directory=directory,
            train=tuple(prefixes["train"]),
            valid=tuple(prefixes["valid"]),
        )

    return make


@pytest.fixture(scope="session")
def read_back() -> ReadBack:
    """A function (directory, split, languages) that returns the shards of a split as lists of documents of units."""

    def read(directory: Path, split: str, languages: tuple[str, ...]) -> list[list[list[Unit]]]:
        suffixes = [f".{language}" for language in languages] if len(languages) == 2 else [""]
        count = len(list((directory / split).glob(f"*{suffixes[0]}.idx")))
        shards = []
        for number in range(count):
            sides = [Shard(directory / split / f"{number:05d}{suffix}") for suffix in suffixes]
            for shard in sides:
                shard.check(VOCAB_SIZE)
            units = [tuple(tuple(shard[i].tolist()) for shard in sides) for i in range(len(sides[0]))]
            bounds = {tuple(shard.documents.tolist()) for shard in sides}
            assert len(bounds) == 1
            shards.append([units[start:end] for start, end in pairwise(bounds.pop())])
        return shards

    return read
