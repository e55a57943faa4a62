"""The input of deduplication: the shards that one task has encoded."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_tools.shards.format import Shard
from data_tools.tokenizers.unknown_pieces import load_records

# Of equal units in both splits the first stays, so that no held-out unit is trained on.
SPLITS = ("valid", "train")


@dataclass(frozen=True)
class EncodedTask:
    """The shards of one task. `index` is its place among all tasks; of equal units, that of the lowest index stays.

    `train` and `valid` are prefixes inside `directory`, without a pair's language: `train/00000` stands for
    `train/00000.{bin,idx}`, or for `train/00000.de.{bin,idx}` and `train/00000.en.{bin,idx}`.
    """

    index: int
    name: str  # mono/de or parallel/de-en
    languages: tuple[str, ...]
    directory: Path
    train: tuple[str, ...]
    valid: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.directory}"

    def prefixes(self, split: str) -> tuple[str, ...]:
        """The prefixes of a split, in order."""
        return {"train": self.train, "valid": self.valid}[split]

    def numbers(self) -> list[tuple[str, int]]:
        """(split, number) of all shards, in their order of precedence among equal units."""
        return [(split, number) for split in SPLITS for number in range(len(self.prefixes(split)))]

    def shards(self, split: str, number: int) -> tuple[Shard, ...]:
        """The one shard of a language, or the two sides of a pair, under a number of a split."""
        return tuple(map(Shard, self._side_prefixes(split, number)))

    def records(self, split: str, number: int) -> tuple[np.ndarray, ...]:
        """For each of these shards the records of its unknown pieces (see data_tools.tokenizers.unknown_pieces)."""
        return tuple(map(load_records, self._side_prefixes(split, number)))

    def _side_prefixes(self, split: str, number: int) -> list[Path]:
        prefix = self.directory / self.prefixes(split)[number]
        return [prefix.with_name(f"{prefix.name}{suffix}") for suffix in self.suffixes]

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The suffixes of the sides of a pair, `.de` and `.en`; one empty suffix for a single language."""
        return ("",) if len(self.languages) == 1 else tuple(f".{language}" for language in self.languages)


def sentence_blocks(lengths: np.ndarray, block_tokens: int) -> Iterator[tuple[slice, slice]]:
    """(sentences, tokens) of consecutive blocks of about `block_tokens`, given the lengths (n,) of sentences."""
    ends = np.cumsum(lengths, dtype=np.int64)
    starts = ends - lengths
    first = 0
    while first < len(lengths):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + block_tokens, side="right")))
        yield slice(first, last), slice(int(starts[first]), int(ends[last - 1]))
        first = last
