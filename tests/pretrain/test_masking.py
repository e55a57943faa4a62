import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.tokenizers.special_ids import SpecialIds
from pretrain.masking import IGNORED, Masking, mask_pair, mask_tokens, next_tokens, spans
from veco import labels as labels_of_models

MASK, FIRST = 999, 4
NUM_TOKENS = 200_000


def masking(rate: float, **options: float) -> Masking:
    return Masking(rate, SpecialIds.xlm_r(MASK + 1), MASK + 1, **options)


@pytest.mark.parametrize("span_length", [0.0, 3.8])
@pytest.mark.parametrize("shares", [(0.8, 0.1), (0.5, 0.0), (0.0, 1.0)])
def test_rates_over_many_tokens(span_length: float, shares: tuple[float, float]) -> None:
    """15 % chosen; of these 80 % <mask>, 10 % random, 10 % unchanged, or as the options say."""
    rng = np.random.default_rng(0)
    ids = np.concatenate([[0], rng.integers(FIRST, MASK, NUM_TOKENS), [2]])
    mask_share, random_share = shares
    options = masking(0.15, mask_token_share=mask_share, random_token_share=random_share, span_length=span_length)
    corrupted, labels = mask_tokens(ids, rng, options)
    chosen = labels != IGNORED
    assert chosen.sum() == 30_000
    is_masked = corrupted[chosen] == MASK
    is_unchanged = corrupted[chosen] == ids[chosen]
    tolerance = 0.01 if not span_length else 0.02  # fewer draws: one for each span
    assert is_masked.mean() == pytest.approx(mask_share, abs=tolerance)
    assert (~is_masked & ~is_unchanged).mean() == pytest.approx(random_share, abs=tolerance)
    assert is_unchanged.mean() == pytest.approx(1 - mask_share - random_share, abs=tolerance)


@given(
    st.lists(st.integers(0, MASK), max_size=40),
    st.floats(0.01, 0.99),
    st.sampled_from([0.0, 1.0, 2.5, 10.0]),
    st.integers(0, 1000),
)
def test_special_tokens_are_never_chosen_nor_drawn(ids: list[int], rate: float, span: float, seed: int) -> None:
    before = np.array(ids, dtype=np.int32)
    corrupted, labels = mask_tokens(before, np.random.default_rng(seed), masking(rate, span_length=span))
    chosen = labels != IGNORED
    ordinary = (before >= FIRST) & (before < MASK)
    assert not (chosen & ~ordinary).any()
    assert (corrupted[~chosen] == before[~chosen]).all()
    assert (labels[chosen] == before[chosen]).all()
    assert ((corrupted[chosen] >= FIRST) & (corrupted[chosen] <= MASK)).all()
    if ordinary.any():
        assert abs(chosen.sum() - rate * ordinary.sum()) <= 1


def test_special_tokens_anywhere_are_never_chosen_nor_drawn() -> None:
    """BERT's are in the middle of the vocabulary: every other id is drawn, and each as often as any other."""
    special = SpecialIds(bos=101, pad=0, eos=102, unk=100, mask=103, others=(7, 119))
    options = Masking(1.0, special, 120, mask_token_share=0.0, random_token_share=1.0)
    rng = np.random.default_rng(0)
    ids = np.tile(np.arange(120), 1000)
    corrupted, labels = mask_tokens(ids, rng, options)
    chosen = labels != IGNORED
    assert set(ids[~chosen]) == {0, 7, 100, 101, 102, 103, 119} == set(corrupted[~chosen])
    counts = np.bincount(corrupted[chosen], minlength=120)
    assert counts[special.ids].sum() == 0
    assert counts[special.are_ordinary(np.arange(120))] == pytest.approx(np.full(113, 1000), abs=200)
    corrupted, labels = mask_tokens(ids, rng, Masking(0.3, special, 120, mask_token_share=1.0, random_token_share=0.0))
    assert (corrupted[labels != IGNORED] == 103).all()


def test_rates_of_a_pair_add_up_to_twice_the_rate() -> None:
    x, y, rng = np.full(1000, 50), np.full(500, 60), np.random.default_rng(0)
    options = masking(0.5, rate_spread=0.4)
    rates = np.array([[(labels != IGNORED).mean() for _, labels in mask_pair(x, y, rng, options)] for _ in range(2000)])
    assert rates.sum(axis=1) == pytest.approx(1.0, abs=0.005)
    # Uniform in 0.1 to 0.9: that mean, that range, and a standard deviation of 0.8 / sqrt(12).
    assert rates.mean(axis=0) == pytest.approx(0.5, abs=0.02) and rates.std(axis=0) == pytest.approx(0.231, abs=0.01)
    assert 0.09 <= rates.min() < 0.11 and 0.89 < rates.max() <= 0.91


def test_pair_without_spread_is_masked_one_after_the_other() -> None:
    x, y, options = np.full(40, 50), np.full(30, 60), masking(0.3)
    rng = np.random.default_rng(5)
    one_by_one = [mask_tokens(ids, rng, options) for ids in (x, y)]
    for found, expected in zip(mask_pair(x, y, np.random.default_rng(5), options), one_by_one, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_fractional_token_has_its_probability() -> None:
    ids = np.full(10, 50)
    counts = [
        (mask_tokens(ids, np.random.default_rng(seed), masking(0.25))[1] != IGNORED).sum() for seed in range(2000)
    ]
    assert set(counts) == {2, 3}
    assert np.mean(counts) == pytest.approx(2.5, abs=0.05)


@given(st.integers(1, 60), st.floats(0, 1), st.floats(1, 20), st.integers(0, 1000))
def test_spans_keep_the_count_and_do_not_overlap(size: int, share: float, mean_length: float, seed: int) -> None:
    count = max(1, int(share * size))
    places, lengths = spans(size, count, np.random.default_rng(seed), mean_length)
    assert len(places) == count == lengths.sum() and lengths.min() >= 1
    assert (np.diff(places) > 0).all() and places[0] >= 0 and places[-1] < size


def test_span_lengths_are_geometric_and_lie_anywhere() -> None:
    """The mean length, the share of each length (1 - p)^(k - 1) p, and every place as likely as any other."""
    rng = np.random.default_rng(1)
    _, lengths = spans(10**6, 150_000, rng, 4.0)
    assert lengths.mean() == pytest.approx(4.0, rel=0.02)
    for k in (1, 2, 5):
        assert (lengths == k).mean() == pytest.approx(0.75 ** (k - 1) * 0.25, rel=0.03)
    hits = np.zeros(20)
    for _ in range(4000):
        hits[spans(20, 5, rng, 3.0)[0]] += 1
    middle, ends = hits[4:16] / 4000, hits[[0, -1]] / 4000
    assert middle == pytest.approx(np.full(12, 0.25), abs=0.07)
    assert (ends > 0.1).all()  # a span reaches the ends from one side only


def test_spans_of_one_token_are_single_tokens() -> None:
    places, lengths = spans(1000, 150, np.random.default_rng(2), 1.0)
    assert (lengths == 1).all() and len(set(places)) == 150


def test_a_span_meets_one_fate() -> None:
    ids = np.arange(FIRST, FIRST + 900)
    corrupted, labels = mask_tokens(ids, np.random.default_rng(3), masking(0.2, span_length=30.0))
    fates = np.where(corrupted == MASK, 1, np.where(corrupted == ids, 0, 2))
    chosen = np.flatnonzero(labels != IGNORED)
    # Far fewer changes of fate among neighbours than tokens: 180 tokens are about six spans.
    assert (np.diff(fates[chosen]) != 0).sum() < 12


def test_targets_of_causal_modelling_are_the_next_tokens() -> None:
    assert next_tokens(np.array([0, 7, 8, 2], dtype=np.int32)).tolist() == [7, 8, 2, IGNORED]


def test_tokens_not_to_be_predicted_have_the_label_that_models_ignore() -> None:
    assert IGNORED == labels_of_models.IGNORED
