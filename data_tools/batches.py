"""What flows from step to step while text becomes shards: batches of whole documents, or of pairs.

A *unit* is a sentence of one language or a sentence pair. Batches hold about a million characters, so that a step pays
Python's price once a batch and not once a token. `dropped` counts the units that were left out on the way to a batch,
by reason; whoever consumes the last batch adds them up.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Literal

import numpy as np

Split = Literal["train", "valid"]


def ends_after(document_ends: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The ends (m,) of the documents that keep a unit when only those units stay whose `kept` (n,) is true."""
    ends = np.concatenate([[0], np.cumsum(kept)])[document_ends]
    return ends[np.diff(ends, prepend=0) > 0]


@dataclass(frozen=True)
class TextBatch:
    """Text of consecutive units. `sides` holds one list of sentences, or two of equal length.

    `document_ends` (int64, ascending, the last is the number of units) says after which unit a document ends; each pair
    is a document of its own. All documents belong to one split.
    """

    sides: tuple[list[str], ...]
    document_ends: np.ndarray
    dropped: Counter[str] = field(default_factory=Counter)
    split: Split = "train"

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
        """For each document its sentences, side by side."""
        start = 0
        for end in self.document_ends.tolist():
            yield tuple(side[start:end] for side in self.sides)
            start = end


@dataclass(frozen=True)
class TokenBatch:
    """Ids of consecutive units: on each side (ids int32 end to end, lengths int64 (n,)), else as `TextBatch`."""

    sides: tuple[tuple[np.ndarray, np.ndarray], ...]
    document_ends: np.ndarray
    dropped: Counter[str] = field(default_factory=Counter)
    split: Split = "train"

    def __len__(self) -> int:
        return len(self.sides[0][1])

    def keep(self, kept: np.ndarray, reason: str) -> "TokenBatch":
        """The batch with only the units whose `kept` (n,) is true; the others are counted under `reason`."""
        num_dropped = len(self) - int(np.count_nonzero(kept))
        if num_dropped == 0:
            return self
        sides = tuple((ids[np.repeat(kept, lengths)], lengths[kept]) for ids, lengths in self.sides)
        dropped = self.dropped + Counter({reason: num_dropped})
        return replace(self, sides=sides, document_ends=ends_after(self.document_ends, kept), dropped=dropped)
