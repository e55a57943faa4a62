"""Hashes of token ids: 64 bits, vectorised, equal on every machine.

The building block is splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014)
with the constants of Vigna's public domain splitmix64.c. Output k of the generator seeded with s is
mix(s + k * GOLDEN).
"""

from collections.abc import Sequence

import numpy as np

from data_tools.deduplicate.encoded import sentence_blocks
from data_tools.shards import Shard

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
BLOCK_TOKENS = 1 << 17  # what is hashed at once, a MB of 64-bit words, stays in cache


def mix(state: np.ndarray) -> np.ndarray:
    """`state` (…), uint64, each word replaced in place by its splitmix64 hash: a bijection of 64-bit words."""
    shifted = state >> np.uint64(30)
    state ^= shifted
    state *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(state, np.uint64(27), out=shifted)
    state ^= shifted
    state *= np.uint64(0x94D049BB133111EB)
    np.right_shift(state, np.uint64(31), out=shifted)
    state ^= shifted
    return state


def sentence_hashes(ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """uint64 (n,): the hash of each of n sentences, given as their ids end to end and lengths (n,), all > 0.

    The token in place k (from 1) adds output k of the generator seeded with its id, so order counts; the sum is mixed
    with the length. Two of N different sentences collide with probability N^2 / 2^65: in ten billion, about 3 do.
    """
    hashes = np.empty(len(lengths), dtype=np.uint64)
    for sentences, tokens in sentence_blocks(lengths, BLOCK_TOKENS):
        block_lengths = lengths[sentences].astype(np.uint64)
        starts = np.cumsum(block_lengths) - block_lengths
        state = np.arange(1, tokens.stop - tokens.start + 1, dtype=np.uint64)
        state -= np.repeat(starts, block_lengths.astype(np.int64))
        state *= GOLDEN
        state += ids[tokens].astype(np.uint64)
        sums = np.add.reduceat(mix(state), starts.astype(np.int64))
        hashes[sentences] = mix(sums + block_lengths * GOLDEN)
    return hashes


def unit_hashes(sides: Sequence[Shard]) -> np.ndarray:
    """uint64 (n,): the hash of each sentence of a shard, or of each pair of two; a pair turned around is another."""
    hashes = np.zeros(len(sides[0]), dtype=np.uint64)
    for shard in sides:
        hashes = mix(hashes ^ sentence_hashes(shard.tokens, shard.lengths))
    return hashes


def ngram_hashes(ids: np.ndarray, n: int) -> np.ndarray:
    """uint64 (len(ids) - n + 1,): the hash of each run of n ids; none if there are fewer."""
    if len(ids) < n:
        return np.zeros(0, dtype=np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(ids, n)
    return sentence_hashes(runs.reshape(-1), np.full(len(runs), n))
