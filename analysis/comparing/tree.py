"""A tree of languages: those whose vectors are most similar are joined first."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.cluster.hierarchy import ClusterNode, linkage, to_tree
from scipy.spatial.distance import squareform

Pair = tuple[str, str]
PLAIN_NAME = re.compile(r"[^\s()\[\]':;,]+")  # what Newick has without quotes


def similarity_matrix(languages: Sequence[str], similarities: Mapping[Pair, float]) -> np.ndarray:
    """(languages, languages), symmetric, with 1 on the diagonal."""
    matrix = np.eye(len(languages))
    for pair, value in similarities.items():
        first, second = (languages.index(language) for language in pair)
        matrix[first, second] = matrix[second, first] = value
    return matrix


def joined(languages: Sequence[str], similarities: Mapping[Pair, float]) -> np.ndarray:
    """The joins of scipy's average linkage (UPGMA), (languages - 1, 4), by the distance 1 - similarity, at least 0.

    What has no similarity, NaN, counts as 0.
    """
    distances = np.maximum(1 - np.nan_to_num(similarity_matrix(languages, similarities)), 0)
    return linkage(squareform(distances, checks=False), "average")


def newick(languages: Sequence[str], joins: np.ndarray) -> str:
    """The tree in Newick's format; two languages are as far apart as the branches between them are long."""

    def written(node: ClusterNode, parent_height: float) -> str:
        height = node.dist / 2
        if node.is_leaf():
            text = quoted(languages[node.id])
        else:
            text = f"({written(node.left, height)},{written(node.right, height)})"
        return f"{text}:{parent_height - height:.6g}"

    root = to_tree(joins)
    height = root.dist / 2
    return f"({written(root.left, height)},{written(root.right, height)});\n"


def quoted(name: str) -> str:
    """A name as Newick has it."""
    return name if PLAIN_NAME.fullmatch(name) else "'" + name.replace("'", "''") + "'"
