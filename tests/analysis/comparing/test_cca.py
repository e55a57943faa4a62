"""SVCCA and PWCCA against canonical correlations of the vectors themselves, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from analysis.comparing.cca import Directions, correlations
from analysis.comparing.cka import batches_of
from analysis.comparing.measures import Measure, VectorSet, compared


def correlations_by_hand(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(correlations, canonical variates of x, of y: a column of length 1 each) of centred vectors, by bases of both."""
    x_basis, y_basis = np.linalg.qr(x)[0], np.linalg.qr(y)[0]
    u, values, v = np.linalg.svd(x_basis.T @ y_basis, full_matrices=False)
    return values, x_basis @ u, y_basis @ v.T


def truncated(x: np.ndarray) -> np.ndarray:
    """Centred vectors in the fewest singular directions that have 99 % of the variance."""
    u, values, _ = np.linalg.svd(x, full_matrices=False)
    shares = np.cumsum(values**2) / (values**2).sum()
    count = next(number for number, share in enumerate(shares, start=1) if share >= 0.99)
    return u[:, :count] * values[:count]


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Vectors of widths 7 and 5 that share two factors; some directions have little variance."""
    drawn = np.random.default_rng(0)
    factors = drawn.normal(size=(200, 2))
    x, y = (
        np.concatenate([factors + 0.4 * drawn.normal(size=(200, 2)), drawn.normal(size=(200, width - 2))], axis=1)
        @ np.diag(np.linspace(1, 0.02, width))
        @ np.linalg.qr(drawn.normal(size=(width, width)))[0]
        for width in (7, 5)
    )
    return x - x.mean(axis=0), y - y.mean(axis=0)


def measured(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    batches = batches_of(len(x), None, seed=1)
    return compared(VectorSet(x, batches), VectorSet(y, batches), [Measure.PWCCA, Measure.SVCCA])


def test_svcca_is_the_mean_correlation_of_truncated_vectors(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    assert truncated(x).shape[1] < 7
    values, *_ = correlations_by_hand(truncated(x), truncated(y))
    assert measured(x + 3, y)["svcca"] == pytest.approx(values.mean(), abs=1e-9)


def test_pwcca_weights_variates_by_what_they_account_for(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    values, *variates = correlations_by_hand(x, y)
    of_sides = []
    for side, own in zip((x, y), variates, strict=True):
        weights = [sum(abs(variate @ neuron) for neuron in side.T) for variate in own.T]
        of_sides.append(np.average(values, weights=weights))
    assert of_sides[0] != pytest.approx(of_sides[1], abs=1e-3)
    assert measured(x, y - 2)["pwcca"] == pytest.approx(np.mean(of_sides), abs=1e-9)


def test_correlations_are_those_of_scikit_learn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    batches = batches_of(len(x), None, seed=1)
    sets = VectorSet(x, batches), VectorSet(y, batches)
    found = correlations(sets[0].directions, sets[1].directions, x.T @ y / len(x))
    x_scores, y_scores = CCA(n_components=2, max_iter=5000, tol=1e-10).fit_transform(x, y)
    right = [np.corrcoef(x_scores[:, number], y_scores[:, number])[0, 1] for number in (0, 1)]
    assert found.values[:2].tolist() == pytest.approx(right, abs=1e-4)


def test_any_linear_map_leaves_pwcca_of_a_set_with_itself_at_one(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """And with fewer sentences than dimensions it is 1 for any two sets, so that the command warns."""
    x, _ = pair
    mapped = x @ np.random.default_rng(1).normal(size=(7, 7))
    assert measured(x, mapped)["pwcca"] == pytest.approx(1)
    drawn = np.random.default_rng(2)
    assert measured(drawn.normal(size=(10, 12)), drawn.normal(size=(10, 12)))["pwcca"] == pytest.approx(1)


def test_directions_without_variance_are_left_out() -> None:
    x = np.random.default_rng(0).normal(size=(50, 2)) @ np.array([[1.0, 2, 3], [0, 1, 1]])
    found = Directions.of(np.cov(x.T))
    assert found.vectors.shape == (3, 2) and found.first(0.0001).vectors.shape == (3, 1)
    assert np.cov((x @ found.whitening).T) == pytest.approx(np.eye(2), abs=1e-9)
