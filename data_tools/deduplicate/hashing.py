"""Hashes of token sequences: 64 bits, vectorised, the same on every machine.

A token's *value* is its id; for an unknown piece, whose id says nothing, it is the hash of its sentence's text.

The building block is splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014)
with the constants of Vigna's public domain splitmix64.c. Output k of the generator seeded with s is
mix(s + k * GOLDEN).
"""

from collections.abc import Iterator, Sequence

import numpy as np

from data_tools.deduplicate.encoded import sentence_blocks
from data_tools.shards.format import Shard
from data_tools.tokenizers.unknown_pieces import NO_RECORDS

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
BLOCK_TOKENS = 1 << 17  # hashed at once: a MB of 64-bit words stays in cache


def mix(state: np.ndarray) -> np.ndarray:
    """Replace each word of `state` (…), uint64, in place by its splitmix64 hash, a bijection; returns `state`."""
    shifted = state >> np.uint64(30)
    state ^= shifted
    state *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(state, np.uint64(27), out=shifted)
    state ^= shifted
    state *= np.uint64(0x94D049BB133111EB)
    np.right_shift(state, np.uint64(31), out=shifted)
    state ^= shifted
    return state


def value_blocks(
    ids: np.ndarray, lengths: np.ndarray, records: np.ndarray, unk: int | None
) -> Iterator[tuple[slice, np.ndarray]]:
    """(sentences, uint64 values of their tokens) of consecutive blocks of n sentences, of about BLOCK_TOKENS each.

    The sentences are given by their ids end to end, their lengths (n,), and the RECORD of each unknown id, `unk`, in
    order; without these records, the unknown id is a value like any other.
    """
    num_unknown = 0
    for sentences, tokens in sentence_blocks(lengths, BLOCK_TOKENS):
        values = ids[tokens].astype(np.uint64)
        if len(records):
            places = np.flatnonzero(values == unk)
            values[places] = records["text"][num_unknown : num_unknown + len(places)]
            num_unknown += len(places)
        yield sentences, values
    assert num_unknown == len(records), f"{len(records):,} records of {num_unknown:,} unknown pieces"


def sentence_hashes(
    ids: np.ndarray, lengths: np.ndarray, records: np.ndarray = NO_RECORDS, unk: int | None = None
) -> np.ndarray:
    """uint64 (n,): the hash of each of n sentences, given as in `value_blocks`, all lengths > 0.

    The token at position k (from 1) adds output k of the generator seeded with its value, so order matters; the sum is
    mixed with the length. About N^2 / 2^65 of N different sentences collide: some 3 in ten billion.
    """
    hashes = np.empty(len(lengths), dtype=np.uint64)
    for sentences, values in value_blocks(ids, lengths, records, unk):
        block_lengths = lengths[sentences].astype(np.uint64)
        starts = np.cumsum(block_lengths) - block_lengths
        state = np.arange(1, len(values) + 1, dtype=np.uint64)
        state -= np.repeat(starts, block_lengths.astype(np.int64))
        state *= GOLDEN
        state += values
        sums = np.add.reduceat(mix(state), starts.astype(np.int64))
        hashes[sentences] = mix(sums + block_lengths * GOLDEN)
    return hashes


def unit_hashes(sides: Sequence[Shard], records: Sequence[np.ndarray], unk: int | None) -> np.ndarray:
    """uint64 (n,): the hash of each sentence of a shard, or of each pair of two shards; the order of the sides counts.

    `records` are those of the unknown pieces `unk` of each side.
    """
    hashes = np.zeros(len(sides[0]), dtype=np.uint64)
    for shard, of_side in zip(sides, records, strict=True):
        hashes = mix(hashes ^ sentence_hashes(shard.tokens, shard.lengths, of_side, unk))
    return hashes


def ngram_hashes(values: np.ndarray, n: int) -> np.ndarray:
    """uint64 (len(values) - n + 1,): the hash of each n-gram of values; empty if there are fewer than n."""
    if len(values) < n:
        return np.zeros(0, dtype=np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(values, n)
    return sentence_hashes(runs.reshape(-1), np.full(len(runs), n))
