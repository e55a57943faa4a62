"""Exact search among vectors: by faiss where it is installed, or else by products in blocks. Both find the same."""

from __future__ import annotations

import importlib.util

import numpy as np

from finetune.understanding.retrieval.matching import Neighbours, nearest


class SentenceIndex:
    """Vectors, float32 (N, D), among which to search those with the largest dot product, of unit length: cosine.

    `use_faiss` None is whether it is installed (`pip install 'veco[search]'`). Raises ValueError for an array of
    another form, and for `use_faiss` where it is not installed.
    """

    def __init__(self, vectors: np.ndarray, use_faiss: bool | None = None) -> None:
        has_faiss = importlib.util.find_spec("faiss") is not None
        if use_faiss and not has_faiss:
            raise ValueError("faiss is not installed: pip install 'veco[search]', or leave out use_faiss")
        vectors = checked(vectors)
        self._shape = vectors.shape
        self._vectors, self._faiss = vectors, None
        if has_faiss if use_faiss is None else use_faiss:
            import faiss

            self._faiss = faiss.IndexFlatIP(vectors.shape[1])
            self._faiss.add(vectors)  # copies them
            self._vectors = np.empty((0, vectors.shape[1]), np.float32)  # not a view, which would keep the others

    def __len__(self) -> int:
        return self._shape[0]

    def search(self, queries: np.ndarray, k: int) -> Neighbours:
        """The `k` rows (all, if there are fewer) with the largest dot products to each query, float32 (Q, D)."""
        queries = checked(queries)
        if queries.shape[1] != self._shape[1]:
            raise ValueError(f"queries of width {queries.shape[1]} among vectors of width {self._shape[1]}")
        if k < 1:
            raise ValueError(f"k {k}: expected at least 1")
        if self._faiss is None:
            return nearest(queries, self._vectors, k)
        return Neighbours(*self._faiss.search(queries, min(k, len(self))))


def checked(vectors: np.ndarray) -> np.ndarray:
    """The vectors, contiguous. Raises ValueError unless they are float32 (N, D) with at least one row."""
    if vectors.ndim != 2 or vectors.dtype != np.float32 or not len(vectors):
        raise ValueError(f"expected vectors float32 (sentences, width), found {vectors.dtype} {vectors.shape}")
    return np.ascontiguousarray(vectors)
