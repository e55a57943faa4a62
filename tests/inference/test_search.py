"""Search against sorted dot products."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from inference import SentenceIndex

VECTORS = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
QUERIES = np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)
HAS_FAISS = importlib.util.find_spec("faiss") is not None


@pytest.mark.parametrize(
    "use_faiss", [False, pytest.param(True, marks=pytest.mark.skipif(not HAS_FAISS, reason="faiss is not installed"))]
)
def test_the_nearest_are_those_with_the_largest_products(use_faiss: bool) -> None:
    index = SentenceIndex(VECTORS, use_faiss)
    products = QUERIES @ VECTORS.T
    expected = np.argsort(-products, axis=1)[:, :7]
    found = index.search(QUERIES, 7)
    assert found.indices.tolist() == expected.tolist()
    assert found.scores == pytest.approx(np.take_along_axis(products, expected, axis=1), abs=1e-5)
    assert len(index) == 300
    everything = SentenceIndex(VECTORS[:3], use_faiss).search(QUERIES, 10)
    assert np.sort(everything.indices, axis=1).tolist() == [[0, 1, 2]] * 5


@pytest.mark.skipif(not HAS_FAISS, reason="faiss is not installed")
def test_faiss_alone_holds_the_vectors() -> None:
    """10 million of width 768 are 30 GB, which are there once."""
    vectors = VECTORS.copy()
    index = SentenceIndex(vectors, use_faiss=True)
    assert len(index) == 300 and sys.getrefcount(vectors) == 2  # this name and the argument


def test_what_cannot_be_searched() -> None:
    with pytest.raises(ValueError, match=r"expected vectors float32 \(sentences, width\), found float64 \(300, 8\)"):
        SentenceIndex(VECTORS.astype(np.float64))
    with pytest.raises(ValueError, match="queries of width 7 among vectors of width 8"):
        SentenceIndex(VECTORS).search(QUERIES[:, :7], 2)
    with pytest.raises(ValueError, match="k 0: expected at least 1"):
        SentenceIndex(VECTORS).search(QUERIES, 0)


@pytest.mark.skipif(HAS_FAISS, reason="faiss is installed")
def test_faiss_is_asked_for_where_it_is_not_installed() -> None:
    with pytest.raises(ValueError, match=r"faiss is not installed: pip install 'veco\[search\]'"):
        SentenceIndex(VECTORS, use_faiss=True)
