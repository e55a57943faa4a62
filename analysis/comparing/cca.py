"""Canonical correlations of two sets of vectors of the same sentences: SVCCA and PWCCA, from covariances alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SVCCA_SHARE = 0.99  # of the variance that SVCCA keeps (Raghu et al., 2017)
LEAST_VARIANCE = 1e-10  # as a share of the largest: directions with less are noise of rounding


@dataclass(frozen=True)
class Directions:
    """The principal directions of a set of vectors, a column for each: (D, K), and its standard deviations (K,)."""

    vectors: np.ndarray
    deviations: np.ndarray

    @classmethod
    def of(cls, covariance: np.ndarray) -> Directions:
        """All that vary, those of the largest variance first."""
        variances, vectors = np.linalg.eigh(covariance)
        variances, vectors = variances[::-1], vectors[:, ::-1]
        kept = variances > LEAST_VARIANCE * max(float(variances[0]), np.finfo(float).tiny)
        return cls(vectors[:, kept], np.sqrt(variances[kept]))

    def first(self, share: float) -> Directions:
        """The fewest that have this share of the variance."""
        shares = np.cumsum(self.deviations**2) / (self.deviations**2).sum()
        count = int(np.searchsorted(shares, share)) + 1
        return Directions(self.vectors[:, :count], self.deviations[:count])

    @property
    def whitening(self) -> np.ndarray:
        """(D, K): x times it has covariance 1."""
        return self.vectors / self.deviations


@dataclass(frozen=True)
class Correlations:
    """Canonical correlations (K,), the largest first, and a column for the direction of each in whitened x and y."""

    values: np.ndarray
    x: np.ndarray
    y: np.ndarray


def correlations(x: Directions, y: Directions, covariance: np.ndarray) -> Correlations:
    """The canonical correlations of x and y in these directions, from their covariance (D, E)."""
    u, values, v = np.linalg.svd(x.whitening.T @ covariance @ y.whitening, full_matrices=False)
    return Correlations(np.minimum(values, 1), u, v.T)


def svcca(x: Directions, y: Directions, covariance: np.ndarray) -> float:
    """The mean correlation in the directions that have 99 % of the variance of each side."""
    found = correlations(x.first(SVCCA_SHARE), y.first(SVCCA_SHARE), covariance)
    return float(found.values.mean())


def pwcca(x: Directions, y: Directions, covariance: np.ndarray) -> float:
    """The mean correlation, weighted by how much of the vectors each accounts for (Morcos et al., 2018).

    The weight of a canonical variate h of x is the sum over the dimensions of x of |<h, x_j>|. That of y would be as
    good: the result is the mean of both.
    """
    found = correlations(x, y, covariance)
    sides = ((x, found.x), (y, found.y))
    weights = [np.abs((side.vectors * side.deviations) @ own).sum(axis=0) for side, own in sides]
    return float(np.mean([own @ found.values / own.sum() for own in weights]))
