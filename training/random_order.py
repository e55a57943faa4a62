"""Pseudo-random order that is computed, not stored: a hash, and permutations of any range."""

from __future__ import annotations

import numpy as np

WORD = (1 << 64) - 1


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
    """The image of `index` under a pseudo-random permutation of range(size), chosen by `key`; O(1) time and memory.

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


def walk(occurrence: int, size: int, key: int) -> int:
    """Index in range(size) of the `occurrence`-th draw: each epoch a new permutation, without replacement inside it."""
    epoch, position = divmod(occurrence, size)
    return permute(position, size, mix(key, epoch))


def hashes(key: int, size: int) -> np.ndarray:
    """uint64 (size,): a hash of each i in range(size), chosen by `key` (splitmix64)."""
    state = np.uint64(key) + np.arange(1, size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def evaluation_indices(num_batches: int, rank: int, world_size: int) -> list[tuple[int, bool]]:
    """(k, counts) of one pass over batches 0 … num_batches - 1, equally many on every rank.

    Where the ranks do not divide the batches, the last ranks repeat a batch with counts = False: it is computed, since
    under ZeRO-3 all ranks must take the same path, but must not be added to the sums.
    """
    rounds = -(-num_batches // world_size)
    wanted = range(rank, rounds * world_size, world_size)
    return [(min(k, num_batches - 1), k < num_batches) for k in wanted]
