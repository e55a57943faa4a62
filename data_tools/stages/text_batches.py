"""The batches of text, and of its tokens, that flow between the steps from text to shards.

A *unit* is a sentence of one language or a sentence pair. Batches hold whole documents, or pairs, of about a million
characters, so that a step has Python's overhead once per batch and not once per token. `dropped` counts the units
dropped on the way to a batch, by reason; the consumer of the last batch adds them up.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Literal, NamedTuple

import numpy as np

from data_tools.tokenizers.special_ids import SpecialIds
from data_tools.tokenizers.unknown_pieces import NO_RECORDS

SplitName = Literal["train", "valid"]


def ends_after(document_ends: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The ends (m,) of the documents that are left when only the units whose `kept` (n,) is true stay."""
    ends = np.concatenate([[0], np.cumsum(kept)])[document_ends]
    return ends[np.diff(ends, prepend=0) > 0]


@dataclass(frozen=True)
class TextBatch:
    """Text of consecutive units. `sides` holds one list of sentences, or two of equal length.

    `document_ends` (int64, ascending, the last is the number of units) are the numbers of units after which a document
    ends; each pair is a document of its own. All documents belong to one split.
    """

    sides: tuple[list[str], ...]
    document_ends: np.ndarray
    dropped: Counter[str] = field(default_factory=Counter)
    split: SplitName = "train"

    def __len__(self) -> int:
        return len(self.sides[0])

    def keep(self, kept: np.ndarray, reason: str) -> "TextBatch":
        """The batch with only the units whose `kept` (n,) is true; the others are counted under `reason`."""
        num_dropped = len(self) - int(np.count_nonzero(kept))
        if num_dropped == 0:
            return self
        sides = tuple(list(compress(side, kept)) for side in self.sides)
        dropped = self.dropped + Counter({reason: num_dropped})
        return replace(self, sides=sides, document_ends=ends_after(self.document_ends, kept), dropped=dropped)

    def documents(self) -> Iterator[tuple[list[str], ...]]:
        """The sentences of each document, by side."""
        start = 0
        for end in self.document_ends.tolist():
            yield tuple(side[start:end] for side in self.sides)
            start = end


class TokenSide(NamedTuple):
    """One language of a batch: int32 ids of all sentences end to end, their int64 lengths (n,), and records.

    `special` are the tokenizer's special ids. `unknown` has a RECORD for each unknown id, in order: see
    data_tools.tokenizers.unknown_pieces.
    """

    ids: np.ndarray
    lengths: np.ndarray
    special: SpecialIds
    unknown: np.ndarray = NO_RECORDS

    def keep(self, kept: np.ndarray) -> "TokenSide":
        """The side with only the sentences whose `kept` (n,) is true."""
        is_kept = np.repeat(kept, self.lengths)
        unknown = self.unknown[is_kept[self.special.are_unknown(self.ids)]] if len(self.unknown) else self.unknown
        return TokenSide(self.ids[is_kept], self.lengths[kept], self.special, unknown)


@dataclass(frozen=True)
class TokenBatch:
    """The ids of consecutive units, with one or two sides; otherwise like `TextBatch`."""

    sides: tuple[TokenSide, ...]
    document_ends: np.ndarray
    dropped: Counter[str] = field(default_factory=Counter)
    split: SplitName = "train"

    def __len__(self) -> int:
        return len(self.sides[0].lengths)

    def keep(self, kept: np.ndarray, reason: str) -> "TokenBatch":
        """The batch with only the units whose `kept` (n,) is true; the others are counted under `reason`."""
        num_dropped = len(self) - int(np.count_nonzero(kept))
        if num_dropped == 0:
            return self
        return replace(
            self,
            sides=tuple(side.keep(kept) for side in self.sides),
            document_ends=ends_after(self.document_ends, kept),
            dropped=self.dropped + Counter({reason: num_dropped}),
        )
