"""CKA, SVCCA and PWCCA of pairs of sets of vectors: of languages, of two models, of H and S."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum

import numpy as np

from analysis.comparing.cca import Directions, pwcca, svcca
from analysis.comparing.cka import cka, hsic
from analysis.comparing.sums import PairSums


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

    def __init__(self, vectors: np.ndarray, batches: Sequence[slice]) -> None:
        """`batches` are those of HSIC; see `analysis.comparing.cka.batches_of`."""
        self.vectors, self.batches = vectors, batches
        self.centre = vectors.mean(axis=0, dtype=np.float64)

    def sums_with(self, other: VectorSet) -> list[PairSums]:
        """The sums with the vectors of the same sentences in another set, of each batch."""
        return [
            PairSums.of(self.vectors[rows] - self.centre, other.vectors[rows] - other.centre) for rows in self.batches
        ]

    @functools.cached_property
    def own_sums(self) -> list[PairSums]:
        return self.sums_with(self)

    @functools.cached_property
    def own_hsic(self) -> float:
        return hsic(self.own_sums)

    @functools.cached_property
    def directions(self) -> Directions:
        return Directions.of(total(self.own_sums).covariance)


def total(sums: Iterable[PairSums]) -> PairSums:
    """The sums over all batches."""
    return functools.reduce(operator.add, sums)


def compared(x: VectorSet, y: VectorSet, measures: Sequence[Measure]) -> dict[str, float]:
    """{measure: similarity} of two sets of vectors of the same sentences."""
    sums = x.sums_with(y)
    covariance = total(sums).covariance
    return {
        str(measure): cka(hsic(sums), x.own_hsic, y.own_hsic)
        if measure is Measure.CKA
        else OF_DIRECTIONS[measure](x.directions, y.directions, covariance)
        for measure in measures
    }
