"""Trees of languages worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.comparing.tree import joined, newick, quoted, similarity_matrix

LANGUAGES = ["en", "de", "fr", "zh"]
SIMILARITIES = {
    ("en", "de"): 0.9,
    ("en", "fr"): 0.7,
    ("de", "fr"): 0.6,
    ("en", "zh"): 0.3,
    ("de", "zh"): 0.2,
    ("fr", "zh"): 0.1,
}


def test_the_most_similar_are_joined_first() -> None:
    """en and de at 0.1; fr at (0.3 + 0.4) / 2; zh at (0.7 + 0.8 + 0.9) / 3. Heights are half of that."""
    text = newick(LANGUAGES, joined(LANGUAGES, SIMILARITIES))
    assert text in (
        "(zh:0.4,(fr:0.175,(en:0.05,de:0.05):0.125):0.225);\n",
        "((fr:0.175,(en:0.05,de:0.05):0.125):0.225,zh:0.4);\n",
    )


def test_matrix_is_symmetric() -> None:
    matrix = similarity_matrix(LANGUAGES, SIMILARITIES)
    assert (matrix == matrix.T).all() and matrix.diagonal().tolist() == [1] * 4 and matrix[0, 2] == 0.7


def test_similarities_beyond_one_or_missing_have_a_distance() -> None:
    """Debiased estimates can be above 1; the distance is 0, and that of a missing one 1."""
    joins = joined(["a", "b", "c"], {("a", "b"): 1.02, ("a", "c"): float("nan"), ("b", "c"): 0.5})
    assert joins[:, 2].tolist() == pytest.approx([0, 0.75]) and np.isfinite(joins).all()


def test_names_are_quoted_where_newick_needs_it() -> None:
    assert [quoted(name) for name in ("en", "zh-Hant", "a b", "it's", "x(y)")] == [
        *("en", "zh-Hant"),
        *("'a b'", "'it''s'", "'x(y)'"),
    ]
