import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.masking import IGNORED, mask_tokens

MASK, FIRST = 999, 4


def test_rates_over_many_tokens() -> None:
    """15 % chosen; of these 80 % <mask>, 10 % random, 10 % unchanged (SPEC section 2)."""
    rng = np.random.default_rng(0)
    ids = np.concatenate([[0], rng.integers(FIRST, MASK, 200_000), [2]])
    corrupted, labels = mask_tokens(ids, rng, 0.15, FIRST, MASK)
    chosen = labels != IGNORED
    assert chosen.sum() == 30_000
    masked = corrupted[chosen] == MASK
    unchanged = corrupted[chosen] == ids[chosen]
    assert masked.mean() == pytest.approx(0.8, abs=0.01)
    assert unchanged.mean() == pytest.approx(0.1, abs=0.01)
    assert (~masked & ~unchanged).mean() == pytest.approx(0.1, abs=0.01)


@given(st.lists(st.integers(0, MASK), max_size=40), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_special_tokens_are_never_chosen_nor_drawn(ids: list[int], rate: float, seed: int) -> None:
    before = np.array(ids, dtype=np.int32)
    corrupted, labels = mask_tokens(before, np.random.default_rng(seed), rate, FIRST, MASK)
    chosen = labels != IGNORED
    ordinary = (before >= FIRST) & (before < MASK)
    assert not (chosen & ~ordinary).any()
    assert (corrupted[~chosen] == before[~chosen]).all()
    assert (labels[chosen] == before[chosen]).all()
    assert ((corrupted[chosen] >= FIRST) & (corrupted[chosen] <= MASK)).all()
    if ordinary.any():
        assert abs(chosen.sum() - rate * ordinary.sum()) <= 1


def test_fractional_token_has_its_probability() -> None:
    ids = np.full(10, 50)
    counts = [
        (mask_tokens(ids, np.random.default_rng(seed), 0.25, FIRST, MASK)[1] != IGNORED).sum() for seed in range(2000)
    ]
    assert set(counts) == {2, 3}
    assert np.mean(counts) == pytest.approx(2.5, abs=0.05)
