"""The cosines of translations, and of sentences that do not translate each other, for comparison."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.parallel.vectors import ParallelVectors
from finetune.understanding.retrieval.matching import unit_rows

BLOCK_ROWS = 4_096
# Of the bins of histograms: narrow, since an encoder may have all cosines between 0.98 and 1.
EDGES = np.linspace(-1, 1, 4001)


@dataclass(frozen=True)
class Cosines:
    """The number of some cosines, their mean and standard deviation (n - 1), and how many are in each bin of EDGES."""

    count: int
    total: float
    squares: float
    histogram: np.ndarray

    @classmethod
    def of(cls, cosines: np.ndarray) -> Cosines:
        exact = np.clip(cosines.astype(np.float64), -1, 1)
        return cls(len(exact), float(exact.sum()), float((exact**2).sum()), np.histogram(exact, EDGES)[0])

    def __add__(self, other: Cosines) -> Cosines:
        return Cosines(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            self.histogram + other.histogram,
        )

    @property
    def mean(self) -> float:
        return self.total / self.count

    @property
    def sd(self) -> float:
        return math.sqrt(max(self.squares - self.total * self.mean, 0) / (self.count - 1))


@dataclass(frozen=True)
class Compared:
    """The cosines of translations and of random pairs of the same languages.

    `num_higher` of the sentences are more similar to their translation than to the random sentence.
    """

    translations: Cosines
    random: Cosines
    num_higher: int

    @classmethod
    def of(cls, translations: np.ndarray, random: np.ndarray) -> Compared:
        return cls(Cosines.of(translations), Cosines.of(random), int((translations > random).sum()))

    def __add__(self, other: Compared) -> Compared:
        return Compared(
            self.translations + other.translations, self.random + other.random, self.num_higher + other.num_higher
        )

    @property
    def higher(self) -> float:
        """The share of sentences that are more similar to their translation."""
        return self.num_higher / self.translations.count


ByPair = Mapping[tuple[str, str], Compared]


def other_rows(num_rows: int, seed: int) -> np.ndarray:
    """Another row for each, int64 (rows,), every row once: the next in a random circle of all."""
    order = np.random.default_rng(seed).permutation(num_rows)
    others = np.empty_like(order)
    others[order] = np.roll(order, -1)
    return others


def cosines_of_layer(
    vectors: ParallelVectors, layer: int, pairs: Sequence[tuple[str, str]], others: np.ndarray, centre: bool
) -> ByPair:
    """The cosines of all pairs of languages; `others` (rows,) are those of the second language in random pairs.

    `centre` subtracts the mean vector of each language.
    """
    by_language = {language: vectors.of_layer(language, layer) for language in vectors.languages}
    means = {language: vectors.centre_of(language, layer) if centre else np.float32(0) for language in by_language}
    found: dict[tuple[str, str], Compared] = {}
    for rows in blocks_of_rows(vectors.num_sentences):
        own = {language: unit_rows(all_rows[rows] - means[language]) for language, all_rows in by_language.items()}
        for first, second in pairs:
            random = unit_rows(by_language[second][others[rows]] - means[second])
            compared = Compared.of(dot_products(own[first], own[second]), dot_products(own[first], random))
            found[first, second] = found[first, second] + compared if (first, second) in found else compared
    return found


def dot_products(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The product of each row of x with that of y, (rows,)."""
    return np.einsum("nd,nd->n", x, y)


def blocks_of_rows(num_rows: int) -> Iterator[slice]:
    """Slices of at most BLOCK_ROWS rows."""
    return (slice(first, min(first + BLOCK_ROWS, num_rows)) for first in range(0, num_rows, BLOCK_ROWS))


def by_language(by_pair: ByPair) -> dict[str, Compared]:
    """What was found for all pairs of each language."""
    languages = dict.fromkeys(itertools.chain.from_iterable(by_pair))
    return {language: total(own for pair, own in by_pair.items() if language in pair) for language in languages}


def total(compared: Iterable[Compared]) -> Compared:
    """All cosines together, of one set or more."""
    return functools.reduce(operator.add, compared)
