"""The n-th draw of a language; `training/random_order.walk` maps its occurrence to a sample.

Languages (and language pairs) are drawn with probability proportional to n^alpha: a pure function, with no list of
draws. Inside one, the samples are permuted pseudo-randomly, so each is seen once before any is seen again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_tools.corpus.language_shares import sampling_probabilities
from training.random_order import hashes, mix


def smoothed_probabilities(counts: Mapping[str, int], alpha: float) -> dict[str, float]:
    """Probability of each key, proportional to its share of `counts` to the power `alpha`.

    As in XLM (Lample and Conneau, 2019, section 3.1). Raises ValueError when there is nothing to draw from.
    """
    if not any(counts.values()):
        raise ValueError("nothing to sample from: every count is zero")
    return dict(zip(counts, sampling_probabilities(list(counts.values()), alpha), strict=True))


class LanguageOrder:
    """The endless sequence of (language, occurrence) draws, addressable by position.

    Positions come in blocks of 2^16. In each block every language has its exact share (rounded, at least one place),
    in an order that differs from block to block. `occurrence` counts the draws of that language before this one, so
    walking through the occurrences walks through the language's samples.
    """

    BLOCK = 1 << 16

    def __init__(self, probabilities: Mapping[str, float], key: int) -> None:
        self.languages = sorted(language for language, p in probabilities.items() if p > 0)
        exact = np.array([probabilities[language] * self.BLOCK for language in self.languages])
        self.places = np.maximum(1, exact.astype(np.int64))
        # Rounding gives a few places too many or too few; the commonest language takes the difference.
        self.places[exact.argmax()] += self.BLOCK - self.places.sum()
        self.key = key
        self._block = -1
        self._order = self._earlier = np.zeros(0, dtype=np.int64)

    def __getitem__(self, position: int) -> tuple[str, int]:
        """(language, how often it was drawn before) at `position`, counted from 0."""
        block, within = divmod(position, self.BLOCK)
        if block != self._block:
            self._lay_out(block)
        which = int(self._order[within])
        return self.languages[which], block * int(self.places[which]) + int(self._earlier[within])

    def _lay_out(self, block: int) -> None:
        """Fill in which language each place of a block has, and how many earlier places of the block it had."""
        numbers = np.repeat(np.arange(len(self.languages)), self.places)
        self._order = numbers[np.argsort(hashes(mix(self.key, block), self.BLOCK), kind="stable")]
        by_language = np.argsort(self._order, kind="stable")
        starts = np.cumsum(self.places) - self.places
        self._earlier = np.empty(self.BLOCK, dtype=np.int64)
        self._earlier[by_language] = np.arange(self.BLOCK) - np.repeat(starts, self.places)
        self._block = block
