"""UUAS, root accuracy and correlations by hand, against scipy, and against Kruskal's algorithm edge by edge."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planted_trees import random_tree
from scipy.stats import spearmanr

from analysis.probing.tree_scores import DepthScores, DistanceScores, LengthMeans, spanning_edges, spearman_of_rows
from analysis.probing.treebank import Tree

CHAIN = Tree(list("abcd"), ["X"] * 4, ["X"] * 4, np.array([-1, 0, 1, 2]))
ALL = np.ones(4, dtype=bool)


def kruskal(distances: np.ndarray, is_kept: np.ndarray) -> set[tuple[int, int]]:
    """The spanning tree as the authors' program builds it: all cells row by row, sorted by distance alone."""
    kept = np.flatnonzero(is_kept).tolist()
    cells = [(i, j) for i in kept for j in kept]
    parts = {word: {word} for word in kept}
    edges = set()
    for i, j in sorted(cells, key=lambda cell: distances[cell]):
        if parts[i] is not parts[j]:
            edges.add((min(i, j), max(i, j)))
            parts[i] |= parts[j]
            for word in parts[j]:
                parts[word] = parts[i]
    return edges


@pytest.mark.parametrize("seed", range(6))
def test_spanning_trees_are_those_of_kruskal_with_equal_distances_too(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    tree = random_tree(drawn, 25)
    is_kept = drawn.random(25) < 0.7
    assert spanning_edges(tree.distances(), is_kept) == kruskal(tree.distances(), is_kept)
    noisy = np.abs(drawn.standard_normal((25, 25)))
    noisy = noisy + noisy.T
    assert spanning_edges(noisy, is_kept) == kruskal(noisy, is_kept)
    assert len(spanning_edges(np.zeros((25, 25)), is_kept)) == is_kept.sum() - 1


def test_edges_of_a_tree_are_found_in_its_distances() -> None:
    tree = random_tree(np.random.default_rng(3), 40)
    edges = {(min(word, head), max(word, head)) for word, head in enumerate(tree.heads.tolist()) if head >= 0}
    assert spanning_edges(tree.distances(), np.ones(40, dtype=bool)) == edges


def test_uuas_by_hand_is_over_all_edges() -> None:
    """The chain a-b-c-d against a star around a, of whose edges only a-b is in the chain; then a right pair."""
    star = np.array([[0, 1, 1, 1], [1, 0, 2, 2], [1, 2, 0, 2], [1, 2, 2, 0.0]])
    scores = DistanceScores()
    scores.add(star, CHAIN.distances(), ALL)
    assert scores.metrics()["uuas"] == 1 / 3
    scores.add(np.array([[0, 5], [5, 0.0]]), np.array([[0, 1], [1, 0]]), ALL[:2])
    assert scores.metrics()["uuas"] == 2 / 4
    scores.add(star, CHAIN.distances(), np.array([True, True, False, False]))
    assert scores.metrics()["uuas"] == 3 / 5


def test_correlations_are_those_of_scipy() -> None:
    drawn = np.random.default_rng(0)
    gold, predicted = random_tree(drawn, 12).distances(), drawn.standard_normal((12, 12))
    expected = [spearmanr(one, other).statistic for one, other in zip(predicted, gold, strict=True)]
    assert spearman_of_rows(predicted, gold) == pytest.approx(expected)
    assert math.isnan(spearman_of_rows(np.ones((1, 4)), np.arange(4)[None])[0])


def test_correlations_are_averaged_by_length_first() -> None:
    means = LengthMeans()
    means.add(5, [1.0, 0.0])
    means.add(5, [0.0, 0.0])
    means.add(50, [0.5])
    means.add(4, [-1.0])
    means.add(51, [-1.0])
    assert means.mean() == pytest.approx((0.25 + 0.5) / 2)
    means.add(50, [math.nan])
    assert means.mean() == pytest.approx((0.25 + 0.25) / 2)
    assert math.isnan(LengthMeans().mean())


def test_the_root_is_the_least_deep_word_that_is_kept() -> None:
    scores = DepthScores()
    scores.add(np.array([0.5, 0.1, 2, 3]), CHAIN.depths(), ALL)
    assert scores.metrics()["root_accuracy"] == 0
    scores.add(np.array([0.5, 0.1, 2, 3]), CHAIN.depths(), np.array([True, False, True, True]))
    assert scores.metrics()["root_accuracy"] == 1 / 2
    scores.add(np.array([0.5, 1.0, 2, 3]), CHAIN.depths(), ~ALL)
    assert scores.metrics()["root_accuracy"] == 2 / 3


def test_depths_of_long_sentences_correlate() -> None:
    tree = random_tree(np.random.default_rng(1), 9)
    scores = DepthScores()
    scores.add(tree.depths() * 3.0 + 1, tree.depths(), np.ones(9, dtype=bool))
    assert scores.metrics()["depth_spearman"] == pytest.approx(1)
