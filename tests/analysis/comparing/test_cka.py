"""Debiased CKA against its formula on whole kernel matrices, and against another package."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest

from analysis.comparing.cka import batches_of, cka
from analysis.comparing.measures import Measure, VectorSet, compared
from analysis.comparing.sums import BatchedSums, PairSums


def hsic_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate, term by term in loops over sentences."""
    n = len(x)
    k = [[0.0 if i == j else float(x[i] @ x[j]) for j in range(n)] for i in range(n)]
    m = [[0.0 if i == j else float(y[i] @ y[j]) for j in range(n)] for i in range(n)]
    trace = sum(k[i][j] * m[j][i] for i in range(n) for j in range(n))
    totals = sum(map(sum, k)) * sum(map(sum, m))
    products = sum(k[i][j] * m[j][other] for i in range(n) for j in range(n) for other in range(n))
    return (trace + totals / ((n - 1) * (n - 2)) - 2 * products / (n - 2)) / (n * (n - 3))


def cka_of(x: np.ndarray, y: np.ndarray, batches: list[np.ndarray] | None = None) -> float:
    batches = batches_of(len(x), None, seed=1) if batches is None else batches
    return compared(VectorSet(x, batches), VectorSet(y, batches), [Measure.CKA])["cka"]


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Dependent vectors of widths 6 and 5, far from 0."""
    drawn = np.random.default_rng(0)
    x = drawn.normal(size=(23, 6)) + 4
    return x, x[:, :5] @ drawn.normal(size=(5, 5)) + drawn.normal(size=(23, 5)) - 2


def test_hsic_is_its_formula(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    for left, right in ((x, y), (x, x), (y, x)):
        by_hand = hsic_by_hand(left, right)
        assert PairSums.of(left, right).hsic == pytest.approx(by_hand, rel=1e-9)
        # Means do not matter.
        assert PairSums.of(left - left.mean(axis=0), right + 1).hsic == pytest.approx(by_hand, rel=1e-9)
    parts = [PairSums.of(x[rows], y[rows]) for rows in (slice(0, 9), slice(9, 11), slice(11, 23))]
    total = parts[0] + parts[1] + parts[2]
    assert total.hsic == pytest.approx(hsic_by_hand(x, y), rel=1e-9)
    assert total.covariance == pytest.approx(np.cov(x.T, y.T, ddof=0)[:6, 6:])


def test_mini_batches_are_summed_before_dividing(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    batches = batches_of(23, 8, seed=1)
    xy, xx, yy = (
        sum(hsic_by_hand(left[rows], right[rows]) for rows in batches) for left, right in ((x, y), (x, x), (y, y))
    )
    assert cka_of(x, y, batches) == pytest.approx(xy / math.sqrt(xx * yy), rel=1e-9)
    assert cka_of(x, y) == pytest.approx(
        hsic_by_hand(x, y) / math.sqrt(hsic_by_hand(x, x) * hsic_by_hand(y, y)), rel=1e-9
    )
    assert cka_of(x, y) != pytest.approx(cka_of(x, y, batches), abs=1e-3)


def test_mini_batches_are_drawn_by_the_seed() -> None:
    """All rows, each once, in about equal batches of rows from everywhere."""
    batches = batches_of(230, 80, seed=1)
    assert list(map(len, batches)) == [77, 77, 76] and sorted(np.concatenate(batches)) == list(range(230))
    assert all(np.ptp(rows) > 200 for rows in batches)
    again, other = batches_of(230, 80, seed=1), batches_of(230, 80, seed=2)
    assert all(map(np.array_equal, batches, again)) and not all(map(np.array_equal, batches, other))


def test_the_sums_of_mini_batches_are_not_kept(
    pair: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a matrix of both widths."""
    made: list[weakref.ref[PairSums]] = []
    kept: list[int] = []
    sums_of = PairSums.of

    def counted(x: np.ndarray, y: np.ndarray) -> PairSums:
        sums = sums_of(x, y)
        made.append(weakref.ref(sums))
        kept.append(sum(one() is not None for one in made))
        return sums

    monkeypatch.setattr(PairSums, "of", counted)
    x, y = (np.tile(side, (10, 1)) for side in pair)
    assert math.isfinite(cka_of(x, y, batches_of(230, 8, seed=1)))
    assert len(made) == 3 * 29 and max(kept) <= 3


def test_values_of_another_package() -> None:
    """Computed by `hsic1` of cka-pytorch 1.1.3 in float64 on the Gram matrices of these rows, and of their halves."""
    row = np.arange(12)[:, None]
    x = np.sin(0.7 * row + 1.3 * np.arange(4)) + 0.25 * row / 12
    y = np.cos(0.9 * row * np.arange(1, 4)) + x[:, :3]
    found = [PairSums.of(*both).hsic for both in ((x, y), (x, x), (y, y))]
    assert found == pytest.approx([0.9480085655831872, 2.1538716700569185, 2.2698007875546966], rel=1e-9)
    assert cka_of(x, y) == pytest.approx(0.42875428966676765, rel=1e-9)
    assert cka_of(x, y, [np.arange(6), np.arange(6, 12)]) == pytest.approx(0.27989995162016534, rel=1e-9)


def test_rotation_scale_and_offset_do_not_matter_but_other_maps_do(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    assert cka_of(x, x) == pytest.approx(1)
    assert cka_of(x, -3 * x @ rotation + 5) == pytest.approx(1)
    assert cka_of(x @ rotation, 0.1 * y) == pytest.approx(cka_of(x, y)) == pytest.approx(cka_of(y, x))
    assert cka_of(x * [100, 1, 1, 1, 1, 1], x) < 0.9


def test_independent_vectors_have_none_however_few_they_are() -> None:
    """The biased estimate would be near 1 for 20 sentences of 200 dimensions."""
    drawn = np.random.default_rng(2)
    values = [cka_of(drawn.normal(size=(20, 200)), drawn.normal(size=(20, 200))) for _ in range(40)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(40) and np.std(values) < 0.2


def test_what_has_no_cka() -> None:
    assert math.isnan(cka(1.0, 0.0, 1.0))
    assert PairSums.of(np.ones((5, 2)), np.ones((5, 2))).hsic == pytest.approx(0)
    with pytest.raises(ValueError, match="no batches"):
        BatchedSums.of([])
    with pytest.raises(ValueError, match="3 sentences: expected at least 4 for CKA"):
        batches_of(3, None, seed=1)
    with pytest.raises(ValueError, match="--batch-size 7: expected at least 8"):
        batches_of(100, 7, seed=1)
    for size in (100, 200, None):
        (rows,) = batches_of(100, size, seed=1)
        assert np.array_equal(rows, np.arange(100))
    assert min(map(len, batches_of(17, 8, seed=1))) >= 4
