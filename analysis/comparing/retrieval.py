"""How often the most similar sentence of another language is the translation."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from finetune.understanding.retrieval.matching import Similarity, best_matches, nearest, prepare, unit_rows


class Variant(StrEnum):
    """What is done to vectors before they are compared, and how they are."""

    COSINE = "cosine"
    CSLS = "csls"
    OFFSET = "offset"  # the mean offset of translations is added, and Euclidean distance compared (Pires et al., 2019)
    CENTRED = "centred"  # the mean of each language is subtracted: cosine (Libovický et al., 2019)
    NORMED = "normed"  # dimensions have mean 0 and variance 1 in each language: cosine (Zhao et al., 2020)


def retrieval_accuracy(x: np.ndarray, y: np.ndarray, variant: Variant) -> float:
    """The share of rows (N, D) whose translation, the row of the same number, is found; the mean of both directions.

    The means and variances of languages are those of the rows that are compared, as published.
    """
    if variant is Variant.OFFSET:
        # x + mean(y - x) is as far from y as x - mean(x) from y - mean(y).
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        return both_ways(nearest_by_distance(x, y), nearest_by_distance(y, x))
    if variant is Variant.NORMED:
        x, y = (unit_rows(normed(side)) for side in (x, y))
    else:
        x, y = prepare(x, y, centre=variant is Variant.CENTRED)
    similarity = Similarity.CSLS if variant is Variant.CSLS else Similarity.COSINE
    return both_ways(best_matches(x, y, similarity), best_matches(y, x, similarity))


def both_ways(forward: np.ndarray, backward: np.ndarray) -> float:
    """The mean share of rows (N,) that have found the row of their own number."""
    return float(np.mean([(found == np.arange(len(found))).mean() for found in (forward, backward)]))


def nearest_by_distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The row of y with the smallest Euclidean distance to each row of x: the largest x.y - |y|^2 / 2."""
    return nearest(x, y, 1, bias=-np.einsum("nd,nd->n", y, y) / 2).indices[:, 0]


def normed(x: np.ndarray) -> np.ndarray:
    """The rows with mean 0 and variance 1 in each dimension; one that does not vary becomes 0."""
    centred = x - x.mean(axis=0)
    deviations = centred.std(axis=0)
    return centred / np.where(deviations > 0, deviations, 1)
