"""Which sample comes n-th: a pure function, with no list of samples and no state.

Languages (and language pairs) are drawn with probability proportional to n^alpha; inside one, samples are walked by a
pseudo-random permutation that is computed, not stored, so each is seen once before any is seen again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_tools.distribution import sampling_probabilities

WORD = (1 << 64) - 1


def smoothed_probabilities(counts: Mapping[str, int], alpha: float) -> dict[str, float]:
    """Probability of each key, proportional to its share of `counts` to the power `alpha` (SPEC section 2).

    Raises ValueError when there is nothing to draw from.
    """
    if not any(counts.values()):
        raise ValueError("nothing to sample from: every count is zero")
    return dict(zip(counts, sampling_probabilities(list(counts.values()), alpha), strict=True))


def mix(*values: int) -> int:
    """A 64-bit hash of integers, equal on every machine and in every process (splitmix64's finaliser, chained)."""
    state = 0
    for value in values:
        state = (state ^ (value & WORD)) + 0x9E3779B97F4A7C15 & WORD
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & WORD
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & WORD
        state ^= state >> 31
    return state


def permute(index: int, size: int, key: int) -> int:
    """Where a pseudo-random permutation of range(size), chosen by `key`, sends `index`; O(1) time and memory.

    A Feistel network permutes the smallest power of two that holds `size`; results outside the range are sent through
    again (cycle walking), fewer than two passes on average.
    """
    if not 0 <= index < size:
        raise ValueError(f"index {index} is outside range({size})")
    right_bits = (max(1, (size - 1).bit_length()) + 1) // 2
    left_bits = max(1, (size - 1).bit_length()) - right_bits
    while True:
        left, right = index >> right_bits, index & ((1 << right_bits) - 1)
        for round_number in range(4):
            # The halves may differ by a bit, so rounds alternate between them instead of swapping.
            if round_number % 2 == 0:
                left ^= mix(key, round_number, right) & ((1 << left_bits) - 1)
            else:
                right ^= mix(key, round_number, left) & ((1 << right_bits) - 1)
        index = (left << right_bits) | right
        if index < size:
            return index


class Schedule:
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
        # Rounding leaves a few places over or wanting; the commonest language takes the difference.
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


def hashes(key: int, size: int) -> np.ndarray:
    """uint64 (size,): a hash of each i in range(size), chosen by `key` (splitmix64)."""
    state = np.uint64(key) + np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def walk(occurrence: int, size: int, key: int) -> int:
    """Index in range(size) of the `occurrence`-th draw: each epoch a new permutation, without replacement inside it."""
    epoch, position = divmod(occurrence, size)
    return permute(position, size, mix(key, epoch))


def evaluation_indices(num_batches: int, rank: int, world_size: int) -> list[tuple[int, bool]]:
    """(k, counts) of one pass over batches 0 … num_batches - 1, equally many on every rank.

    Where the ranks do not divide the batches, the last ranks repeat a batch with counts = False: it is computed, since
    under ZeRO-3 all ranks must take the same path, but must not be added to the sums.
    """
    rounds = -(-num_batches // world_size)
    wanted = range(rank, rounds * world_size, world_size)
    return [(min(k, num_batches - 1), k < num_batches) for k in wanted]
