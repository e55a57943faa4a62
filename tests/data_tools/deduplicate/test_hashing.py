from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.deduplicate.hashing import GOLDEN, mix, ngram_hashes, sentence_hashes, unit_hashes
from data_tools.shards.format import Shard, ShardWriter
from data_tools.tokenizers.sentence_piece import UNK_ID
from data_tools.tokenizers.unknown_pieces import NO_RECORDS, records_of

WORD = (1 << 64) - 1
SENTENCES = st.lists(st.lists(st.integers(0, 32_000), min_size=1, max_size=9), min_size=1, max_size=12)


def _mixed(state: int) -> int:
    """splitmix64's finaliser in plain integers."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & WORD
    return state ^ (state >> 31)


def _hash(sentence: list[int]) -> int:
    """The hash of a sentence as its docstring says it, in plain integers."""
    golden = 0x9E3779B97F4A7C15
    total = sum(_mixed((token + place * golden) & WORD) for place, token in enumerate(sentence, 1))
    return _mixed((total + len(sentence) * golden) & WORD)


def test_mix_is_splitmix64() -> None:
    """The first outputs for seed 1234567, as published with implementations in dozens of languages (Rosetta Code)."""
    outputs = mix(np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * GOLDEN)
    assert outputs.tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(sentences=SENTENCES, block_tokens=st.integers(1, 20), dtype=st.sampled_from(["<i2", "<i4", "<i8"]))
def test_hashes_are_as_defined_in_blocks_of_any_size(sentences: list[list[int]], block_tokens: int, dtype: str) -> None:
    ids = np.array([token for sentence in sentences for token in sentence], dtype=dtype)
    lengths = np.array([len(sentence) for sentence in sentences], dtype=np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_tools.deduplicate.hashing.BLOCK_TOKENS", block_tokens)
        hashes = sentence_hashes(ids, lengths)
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == [_hash(sentence) for sentence in sentences]


@given(sentences=st.lists(st.lists(st.integers(2, 5), min_size=1, max_size=9), min_size=1, max_size=12))
def test_an_unknown_piece_has_the_hash_of_its_text_for_an_id(sentences: list[list[int]]) -> None:
    ids = np.array([token for sentence in sentences for token in sentence], dtype="<i2")
    records = records_of([f"text {i % 3}" for i in range(ids.tolist().count(UNK_ID))])
    texts = iter(records["text"].tolist())
    values = [[next(texts) if token == UNK_ID else token for token in sentence] for sentence in sentences]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_tools.deduplicate.hashing.BLOCK_TOKENS", 4)
        hashes = sentence_hashes(ids, np.array([len(sentence) for sentence in sentences]), records, UNK_ID)
    assert hashes.tolist() == [_hash(sentence) for sentence in values]


def test_two_million_short_sentences_have_different_hashes_evenly_spread() -> None:
    """Everything of up to three of 125 ids; eight ids in every order; one id, many times."""
    groups = [
        *(np.indices((125,) * length).reshape(length, -1).T for length in (1, 2, 3)),
        np.array(list(permutations(range(200_000, 200_008)))),
        *(np.repeat(np.arange(200)[:, None], length, axis=1) for length in range(4, 100)),
    ]
    hashes = np.concatenate(
        [sentence_hashes(group.reshape(-1), np.full(len(group), len(group[0]))) for group in groups]
    )
    assert len(hashes) > 2_000_000
    assert len(np.unique(hashes)) == len(hashes)
    # Each of 64 buckets of the range gets its share within 5 standard deviations.
    counts = np.bincount(hashes >> np.uint64(58), minlength=64)
    share = len(hashes) / 64
    assert np.abs(counts - share).max() < 5 * share**0.5


def test_a_pair_is_both_sides_in_their_order(tmp_path: Path) -> None:
    def side(name: str, *sentences: list[int]) -> Shard:
        with ShardWriter(tmp_path / name, 300) as writer:
            for sentence in sentences:
                writer.add_sequence(np.array(sentence))
        return Shard(tmp_path / name)

    source = side("de", [1, 2], [3], [1], [3], [5], [1, 2])
    target = side("en", [3], [1, 2], [2, 3], [3], [5], [3])
    hashes = unit_hashes([source, target], [NO_RECORDS] * 2, UNK_ID).tolist()
    assert hashes[0] == hashes[5]
    assert len(set(hashes)) == 5
    assert not set(hashes) & set(unit_hashes([source], [NO_RECORDS], UNK_ID).tolist())


def test_ngrams_are_hashed_as_sentences() -> None:
    ids = [5, 6, 5, 6, 5, 299, 7]
    for n in range(1, 8):
        windows = [ids[start : start + n] for start in range(len(ids) - n + 1)]
        assert ngram_hashes(np.array(ids), n).tolist() == [_hash(window) for window in windows]
    assert ngram_hashes(np.array(ids), 8).shape == (0,)
    assert ngram_hashes(np.array(ids[:0]), 1).shape == (0,)
