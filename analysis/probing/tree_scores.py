"""How well predicted distances and depths are those of trees: UUAS, root accuracy, Spearman's correlation by length.

The definitions are those of Hewitt and Manning (2019) and of their program's reports.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.stats import rankdata

LENGTHS = range(5, 51)  # in words, over whose means correlations are averaged


@dataclass
class LengthMeans:
    """Correlations by the length of their sentence."""

    by_length: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, length: int, correlations: Sequence[float] | np.ndarray) -> None:
        """Add the correlations of a sentence; one that is not defined, as of equal numbers, counts as 0."""
        self.by_length[length] += np.nan_to_num(correlations).tolist()

    def mean(self) -> float:
        """The mean over LENGTHS of the means of each length; NaN without a sentence of such a length."""
        means = [math.fsum(self.by_length[one]) / len(self.by_length[one]) for one in LENGTHS if one in self.by_length]
        return math.fsum(means) / len(means) if means else math.nan


@dataclass
class DistanceScores:
    """UUAS and DSpr of the sentences added so far."""

    num_edges: int = 0
    num_found: int = 0
    correlations: LengthMeans = field(default_factory=LengthMeans)

    def add(self, predicted: np.ndarray, gold: np.ndarray, is_kept: np.ndarray) -> None:
        """Add a sentence's distances (words, words); edges are between words that are kept, correlations of all."""
        edges = spanning_edges(gold, is_kept)
        self.num_edges += len(edges)
        self.num_found += len(edges & spanning_edges(predicted, is_kept))
        self.correlations.add(len(gold), spearman_of_rows(predicted, gold))

    def metrics(self) -> Mapping[str, float]:
        """UUAS: the share of the gold trees' edges in the spanning trees of predictions, over all sentences."""
        uuas = self.num_found / self.num_edges if self.num_edges else math.nan
        return {"uuas": uuas, "dspr": self.correlations.mean()}


@dataclass
class DepthScores:
    """Root accuracy and the correlation of depths of the sentences added so far."""

    num_sentences: int = 0
    num_right: int = 0
    correlations: LengthMeans = field(default_factory=LengthMeans)

    def add(self, predicted: np.ndarray, gold: np.ndarray, is_kept: np.ndarray) -> None:
        """Add a sentence's depths (words,); the predicted root is the least deep word that is kept, if any is."""
        candidates = np.flatnonzero(is_kept) if is_kept.any() else np.arange(len(gold))
        root = candidates[predicted[candidates].argmin()]
        self.num_sentences += 1
        self.num_right += int(gold[root] == 0)
        self.correlations.add(len(gold), spearman_of_rows(predicted[None], gold[None]))

    def metrics(self) -> Mapping[str, float]:
        accuracy = self.num_right / self.num_sentences if self.num_sentences else math.nan
        return {"root_accuracy": accuracy, "depth_spearman": self.correlations.mean()}


def spanning_edges(distances: np.ndarray, is_kept: np.ndarray) -> set[tuple[int, int]]:
    """The edges i < j of the minimum spanning tree over the kept words; of equal distances the first by row.

    Where kept words hang on one that is left out, the gold tree is that of the remaining distances, too.
    """
    kept = np.flatnonzero(is_kept)
    if len(kept) < 2:
        return set()
    rows, columns = np.triu_indices(len(kept), k=1)
    # Ranks: scipy takes a distance of 0 for a missing edge, and sorts equal distances in any order.
    ranks = np.empty(len(rows))
    ranks[distances[kept[rows], kept[columns]].argsort(kind="stable")] = np.arange(1, len(rows) + 1)
    graph = np.zeros((len(kept), len(kept)))
    graph[rows, columns] = ranks
    found = minimum_spanning_tree(graph).nonzero()
    return {(int(min(edge)), int(max(edge))) for edge in zip(*(kept[ends] for ends in found), strict=True)}


def spearman_of_rows(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each row of x (rows, columns) with that of y, NaN where one has equal numbers only."""
    ranks = [rankdata(side, axis=1) for side in (x, y)]
    centred = [rank - rank.mean(axis=1, keepdims=True) for rank in ranks]
    product, *squares = ((one * other).sum(axis=1) for one, other in (centred, centred[:1] * 2, centred[1:] * 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return product / np.sqrt(squares[0] * squares[1])
