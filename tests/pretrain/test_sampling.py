from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.sampling import LanguageOrder, smoothed_probabilities
from training.random_order import evaluation_indices, mix, permute, walk


@given(st.integers(1, 300), st.integers(0, 2**64 - 1))
def test_permute_is_a_permutation(size: int, key: int) -> None:
    assert sorted(permute(i, size, key) for i in range(size)) == list(range(size))


def test_permutations_of_two_keys_differ_and_mix() -> None:
    first, second = ([permute(i, 1000, key) for i in range(1000)] for key in (1, 2))
    assert first != second
    # A random permutation of 1000 has about one fixed point; a broken one stays near the identity.
    assert sum(i == image for i, image in enumerate(first)) < 10
    assert sum(abs(i - image) for i, image in enumerate(first)) / 1000 > 250  # expected 333


def test_permute_refuses_an_index_outside() -> None:
    with pytest.raises(ValueError, match=r"index 7 is outside range\(7\)"):
        permute(7, 7, 0)


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 10**10), min_size=1), st.floats(0, 1))
def test_probabilities_sum_to_one(counts: dict[str, int], alpha: float) -> None:
    if not sum(counts.values()):
        with pytest.raises(ValueError, match="nothing to sample"):
            smoothed_probabilities(counts, alpha)
        return
    probabilities = smoothed_probabilities(counts, alpha)
    assert sum(probabilities.values()) == pytest.approx(1)
    assert all(probabilities[key] == 0 for key, count in counts.items() if count == 0)


def test_alpha_half_is_the_square_root() -> None:
    probabilities = smoothed_probabilities({"en": 900, "sw": 100}, 0.5)
    assert probabilities == pytest.approx({"en": 30 / 40, "sw": 10 / 40})


def test_schedule_has_exact_shares_and_counts_occurrences_in_order() -> None:
    schedule = LanguageOrder({"en": 0.75, "sw": 0.25}, key=3)
    length = LanguageOrder.BLOCK + 5000  # over the border of two blocks
    seen: dict[str, list[int]] = {"en": [], "sw": []}
    for position in range(length):
        language, occurrence = schedule[position]
        seen[language].append(occurrence)
    for occurrences in seen.values():
        assert occurrences == list(range(len(occurrences))), "draws of a language are numbered one by one"
    assert schedule[LanguageOrder.BLOCK] == (
        schedule[LanguageOrder.BLOCK][0],
        49152 if schedule[LanguageOrder.BLOCK][0] == "en" else 16384,
    )
    assert len(seen["en"]) == pytest.approx(0.75 * length, rel=0.01)


def test_schedule_mixes_and_blocks_differ() -> None:
    schedule = LanguageOrder({"en": 0.5, "sw": 0.5}, key=3)
    names = [schedule[position][0] for position in range(2000)]
    changes = sum(one != other for one, other in pairwise(names))
    assert 850 < changes < 1150  # half of the neighbours differ when the order is random
    assert names != [schedule[LanguageOrder.BLOCK + position][0] for position in range(2000)]


def test_rare_language_has_a_place_in_every_block() -> None:
    schedule = LanguageOrder({"a": 0.6, "b": 0.4 - 1e-12, "rare": 1e-12}, key=9)
    assert sum(schedule.places) == LanguageOrder.BLOCK
    assert schedule.places[schedule.languages.index("rare")] == 1


@settings(max_examples=20)
@given(st.integers(1, 50), st.integers(0, 2**32))
def test_walk_sees_each_sample_once_an_epoch(size: int, key: int) -> None:
    for epoch in range(3):
        assert sorted(walk(epoch * size + i, size, key) for i in range(size)) == list(range(size))
    if size > 20:
        assert [walk(i, size, key) for i in range(size)] != [walk(size + i, size, key) for i in range(size)]


def test_mix_is_frozen() -> None:
    """Orders of samples must not change between releases: recorded from this implementation."""
    assert mix(1, 2, 3) == 15020427595393229491
    assert mix(0) == 16294208416658607535
    assert mix(3, 2, 1) != mix(1, 2, 3)
    assert mix(-1) == mix(2**64 - 1)
    assert 0 <= mix(5) < 2**64


@settings(max_examples=50, deadline=None)
@given(num_batches=st.integers(1, 50), world_size=st.integers(1, 8))
def test_evaluation_counts_each_batch_once_in_equal_rounds(num_batches: int, world_size: int) -> None:
    ranks = [evaluation_indices(num_batches, rank, world_size) for rank in range(world_size)]
    assert len({len(indices) for indices in ranks}) == 1
    assert sorted(k for indices in ranks for k, counts in indices if counts) == list(range(num_batches))
    assert all(0 <= k < num_batches for indices in ranks for k, _ in indices)
