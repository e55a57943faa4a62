"""The n-th draw of a language; `training/random_order.walk` maps its occurrence to a sample.

Languages (and language pairs) are drawn with probability proportional to n^alpha: a pure function, with no list of
draws. Inside one, the samples are permuted pseudo-randomly, so each is seen once before any is seen again.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

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


@lru_cache(maxsize=4)
def permutation(key: int, size: int) -> np.ndarray:
    """int64 (size,): a permutation of range(size), chosen by `key`; the stretches of a run ask for the same ones."""
    return np.argsort(hashes(key, size), kind="stable")


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

    def draws_before(self, position: int) -> dict[str, int]:
        """How often each language is drawn before `position`."""
        block, within = divmod(position, self.BLOCK)
        counts = block * self.places
        if within:
            counts = counts + np.bincount(self._order_of(block)[:within], minlength=len(self.languages))
        return dict(zip(self.languages, counts.tolist(), strict=True))

    def _order_of(self, block: int) -> np.ndarray:
        """Which language each place of a block has, as an index into `languages`."""
        numbers = np.repeat(np.arange(len(self.languages)), self.places)
        return numbers[permutation(mix(self.key, block), self.BLOCK)]

    def _lay_out(self, block: int) -> None:
        """Fill in which language each place of a block has, and how many earlier places of the block it had."""
        self._order = self._order_of(block)
        by_language = np.argsort(self._order, kind="stable")
        starts = np.cumsum(self.places) - self.places
        self._earlier = np.empty(self.BLOCK, dtype=np.int64)
        self._earlier[by_language] = np.arange(self.BLOCK) - np.repeat(starts, self.places)
        self._block = block
