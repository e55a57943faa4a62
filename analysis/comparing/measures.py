"""CKA, SVCCA and PWCCA of pairs of sets of vectors: of languages, of two models, of H and S."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import numpy as np

from analysis.comparing.cca import Directions, pwcca, svcca
from analysis.comparing.cka import cka
from analysis.comparing.sums import BatchedSums, PairSums


class Measure(StrEnum):
    """How similar two sets of vectors are."""

    CKA = "cka"
    SVCCA = "svcca"
    PWCCA = "pwcca"


OF_DIRECTIONS: Mapping[Measure, Callable[[Directions, Directions, np.ndarray], float]] = {
    Measure.SVCCA: svcca,
    Measure.PWCCA: pwcca,
}


class VectorSet:
    """The vectors (N, D) of some sentences, and what comparing them with any other set needs."""

    def __init__(self, vectors: np.ndarray, batches: Sequence[np.ndarray]) -> None:
        """`batches` are the rows of those of HSIC; see `analysis.comparing.cka.batches_of`."""
        self.vectors, self.batches = vectors, batches
        self.centre = vectors.mean(axis=0, dtype=np.float64)

    def sums_with(self, other: VectorSet) -> BatchedSums:
        """The sums with the vectors of the same sentences in another set."""
        return BatchedSums.of(
            PairSums.of(self.vectors[rows] - self.centre, other.vectors[rows] - other.centre) for rows in self.batches
        )

    @functools.cached_property
    def own_sums(self) -> BatchedSums:
        return self.sums_with(self)

    @functools.cached_property
    def directions(self) -> Directions:
        return Directions.of(self.own_sums.total.covariance)


def compared(x: VectorSet, y: VectorSet, measures: Sequence[Measure]) -> dict[str, float]:
    """{measure: similarity} of two sets of vectors of the same sentences."""
    sums = x.sums_with(y)
    covariance = sums.total.covariance
    return {
        str(measure): cka(sums.hsic, x.own_sums.hsic, y.own_sums.hsic)
        if measure is Measure.CKA
        else OF_DIRECTIONS[measure](x.directions, y.directions, covariance)
        for measure in measures
    }
