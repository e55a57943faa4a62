"""Translations found by comparing embeddings: nearest neighbours, CSLS and margin, BUCC's mining and its threshold.

Embeddings are float32 arrays (sentences, width), a row for each sentence. The similarities of all pairs are computed in
blocks, so that memory holds the embeddings and little else.

Sources: cosine and CSLS, Conneau et al. (ICLR 2018), eq. 3; ratio margin, mining both ways and its threshold, Artetxe
and Schwenk (ACL 2019), sections 3 and 4, as XTREME's scripts use them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from finetune.understanding.metrics.pairs import Pairs
from finetune.understanding.tasks.examples import RetrievalSet

# The similarities of a block, 2,048 x 4,096 float32, take 32 MB.
BLOCK_ROWS = 2_048
BLOCK_COLUMNS = 4_096
# Added to the variances before whitening, as a share of their mean: directions of almost no variance stay small.
WHITENING_RIDGE = 1e-3


class Similarity(StrEnum):
    """The similarity of two sentences, by their cosine and the mean cosine r of each to its k nearest neighbours."""

    COSINE = "cosine"  # cos(x, y)
    CSLS = "csls"  # 2 cos(x, y) - r(x) - r(y)
    MARGIN = "margin"  # cos(x, y) / ((r(x) + r(y)) / 2)


NEIGHBOURS = {Similarity.COSINE: 1, Similarity.CSLS: 10, Similarity.MARGIN: 4}  # k as published


class Neighbours(NamedTuple):
    """The k nearest neighbours of each row: similarities float32 (N, k), descending, and row numbers int64 (N, k)."""

    scores: np.ndarray
    indices: np.ndarray


class MinedPairs(NamedTuple):
    """Pairs of rows, each row in at most one pair, by descending score: int64 (P,), int64 (P,), float32 (P,)."""

    source: np.ndarray
    target: np.ndarray
    scores: np.ndarray


def prepare(x: np.ndarray, y: np.ndarray, centre: bool = False, whiten: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """New embeddings of length 1, so that dot products are cosines.

    `centre` subtracts the mean of each language's embeddings. `whiten` also gives all directions the same variance over
    both languages, by one symmetric map (ZCA) for both, so that they stay comparable.
    """
    check_embeddings(x, y)
    if centre or whiten:
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    if whiten:
        whitening = whitening_of(x, y)
        x, y = x @ whitening, y @ whitening
    return unit_rows(x), unit_rows(y)


def centred_by(x: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """New rows, each without the mean of the rows of its group, such as its language."""
    names, numbers = np.unique(np.array(groups), return_inverse=True)
    sums = np.zeros((len(names), x.shape[1]), dtype=x.dtype)
    np.add.at(sums, numbers, x)
    return x - (sums / np.bincount(numbers)[:, None]).astype(x.dtype)[numbers]


def check_embeddings(x: np.ndarray, y: np.ndarray) -> None:
    """Raise ValueError unless both are finite float32 matrices of the same width with at least one row."""
    for side, array in (("source", x), ("target", y)):
        if array.ndim != 2 or array.dtype != np.float32 or not len(array):
            raise ValueError(
                f"{side} embeddings: expected float32 (sentences, width), found {array.dtype} {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{side} embeddings: not all values are finite")
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"embeddings of width {x.shape[1]} and {y.shape[1]} cannot be compared")


def unit_rows(x: np.ndarray) -> np.ndarray:
    """New rows, divided by their length; a row of zeros stays."""
    lengths = np.sqrt(np.einsum("nd,nd->n", x, x))
    return x / np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]


def whitening_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The symmetric matrix (D, D) that gives the centred rows of x and y variance 1 in all directions."""
    covariance = (x.T @ x + y.T @ y).astype(np.float64) / (len(x) + len(y))
    variances, directions = np.linalg.eigh(covariance)
    scales = 1 / np.sqrt(np.maximum(variances, 0) + WHITENING_RIDGE * variances.mean())
    return ((directions * scales) @ directions.T).astype(np.float32)


def nearest(x: np.ndarray, y: np.ndarray, k: int, bias: np.ndarray | None = None) -> Neighbours:
    """The k rows of y with the largest x·y (+ bias of the row of y) for each row of x; all of y if it has fewer."""
    best = _Best(len(x), min(k, len(y)))
    for rows, columns, scores in _blocks(x, y, "nearest neighbours"):
        if bias is not None:
            scores += torch.from_numpy(bias[columns])
        best.update(rows, columns.start, scores)
    return best.neighbours()


def nearest_both_ways(x: np.ndarray, y: np.ndarray, k: int) -> tuple[Neighbours, Neighbours]:
    """(`nearest(x, y, k)`, `nearest(y, x, k)`), from the same products."""
    forward, backward = _Best(len(x), min(k, len(y))), _Best(len(y), min(k, len(x)))
    for rows, columns, scores in _blocks(x, y, "nearest neighbours both ways"):
        forward.update(rows, columns.start, scores)
        backward.update(columns, rows.start, scores.T)
    return forward.neighbours(), backward.neighbours()


def best_matches(x: np.ndarray, y: np.ndarray, similarity: Similarity, k: int | None = None) -> np.ndarray:
    """The row of y that is most similar to each row of x, int64 (N,), as for Tatoeba. For rows of length 1."""
    return ranked_matches(x, y, similarity, 1, k)[:, 0]


def ranked_matches(
    x: np.ndarray, y: np.ndarray, similarity: Similarity, count: int, k: int | None = None
) -> np.ndarray:
    """The `count` rows of y that are most similar to each row of x, best first, int64 (N, count). For rows of length 1.

    All of y if it has fewer. As published, CSLS is compared over all of y, the margin over the k nearest by cosine, or
    the `count` nearest if these are more.
    """
    k = k or NEIGHBOURS[similarity]
    if similarity is Similarity.COSINE:
        return nearest(x, y, count).indices
    compared = max(k, count) if similarity is Similarity.MARGIN else k
    forward, backward = nearest_both_ways(x, y, compared)
    own_mean, other_mean = (found.scores[:, :k].mean(axis=1) for found in (forward, backward))
    if similarity is Similarity.CSLS:
        return nearest(x, y, count, bias=-other_mean / 2).indices
    scores = rescored(forward, own_mean, other_mean, similarity)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(forward.indices, order, axis=1)


def rescored(found: Neighbours, own_mean: np.ndarray, other_mean: np.ndarray, similarity: Similarity) -> np.ndarray:
    """The similarity (N, k) of each row with its neighbours, from cosines and the mean cosines of both."""
    if similarity is Similarity.COSINE:
        return found.scores
    means = own_mean[:, None] + other_mean[found.indices]
    return 2 * found.scores - means if similarity is Similarity.CSLS else found.scores / (means / 2)


def mine(x: np.ndarray, y: np.ndarray, similarity: Similarity, k: int | None = None) -> MinedPairs:
    """Pairs of rows, best first, among the best of x for each y and the best of y for each x.

    A row of one pair is in no later pair (Artetxe and Schwenk's "max" retrieval). For rows of length 1.
    """
    k = k or NEIGHBOURS[similarity]
    forward, backward = nearest_both_ways(x, y, k)
    x_mean, y_mean = forward.scores.mean(axis=1), backward.scores.mean(axis=1)
    x_scores = rescored(forward, x_mean, y_mean, similarity)
    y_scores = rescored(backward, y_mean, x_mean, similarity)
    x_best = np.take_along_axis(forward.indices, x_scores.argmax(axis=1)[:, None], axis=1)[:, 0]
    y_best = np.take_along_axis(backward.indices, y_scores.argmax(axis=1)[:, None], axis=1)[:, 0]
    source = np.concatenate([np.arange(len(x)), y_best])
    target = np.concatenate([x_best, np.arange(len(y))])
    scores = np.concatenate([x_scores.max(axis=1), y_scores.max(axis=1)])
    order = np.argsort(-scores, kind="stable")
    return _one_to_one(MinedPairs(source[order], target[order], scores[order]), len(x), len(y))


def _one_to_one(pairs: MinedPairs, num_source: int, num_target: int) -> MinedPairs:
    """The pairs, in order, of which neither row is in an earlier one."""
    source_is_free, target_is_free = bytearray(b"\1" * num_source), bytearray(b"\1" * num_target)
    kept = []
    for number, (source, target) in enumerate(zip(pairs.source.tolist(), pairs.target.tolist(), strict=True)):
        if source_is_free[source] and target_is_free[target]:
            source_is_free[source] = target_is_free[target] = 0
            kept.append(number)
    return MinedPairs(pairs.source[kept], pairs.target[kept], pairs.scores[kept])


def mine_set(sentences: RetrievalSet, x: np.ndarray, y: np.ndarray, similarity: Similarity) -> MinedPairs:
    """Pairs of rows of a set such as BUCC's; x and y as `prepare` returns them, a row for each sentence.

    As in XTREME, a repeated sentence is compared once, and no pair with it is kept, since its id is ambiguous.
    """
    for side, array, texts in (
        ("source", x, sentences.source_sentences),
        ("target", y, sentences.target_sentences),
    ):
        if len(array) != len(texts):
            raise ValueError(f"{len(array):,} {side} embeddings for {len(texts):,} sentences")
    x_rows, x_is_single = _distinct(sentences.source_sentences)
    y_rows, y_is_single = _distinct(sentences.target_sentences)
    pairs = mine(x[x_rows], y[y_rows], similarity)
    kept = x_is_single[pairs.source] & y_is_single[pairs.target]
    return MinedPairs(x_rows[pairs.source[kept]], y_rows[pairs.target[kept]], pairs.scores[kept])


def _distinct(sentences: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(the row of each distinct sentence's first occurrence, int64; whether it is the only one, bool)."""
    first_rows: dict[str, int] = {}
    is_single = bytearray(b"\1" * len(sentences))
    for row, sentence in enumerate(sentences):
        first = first_rows.setdefault(sentence.strip(), row)
        if first != row:
            is_single[first] = 0
    rows = np.fromiter(first_rows.values(), np.int64, len(first_rows))
    return rows, np.frombuffer(is_single, dtype=bool)[rows]


def named(pairs: MinedPairs, sentences: RetrievalSet, threshold: float) -> Pairs:
    """The ids of the pairs with at least that score, as in BUCC's prediction files."""
    return {
        (sentences.source_ids[source], sentences.target_ids[target])
        for source, target, score in zip(*(column.tolist() for column in pairs), strict=True)
        if score >= threshold
    }


def tuned_threshold(pairs: MinedPairs, sentences: RetrievalSet) -> float:
    """The minimum score of pairs that maximises F1 against the gold pairs of `sentences`, a dev set.

    It lies half-way between the last accepted pair and the next. 0 if no pair is correct, as in XTREME. Raises
    ValueError if the gold pairs are not known.
    """
    if sentences.gold is None:
        raise ValueError(f"the dev set in {sentences.language!r} has no gold pairs to tune the threshold on")
    is_correct = np.array(
        [
            (sentences.source_ids[source], sentences.target_ids[target]) in sentences.gold
            for source, target in zip(pairs.source.tolist(), pairs.target.tolist(), strict=True)
        ],
        dtype=bool,
    )
    if not is_correct.any():
        return 0.0
    num_correct = np.cumsum(is_correct)
    # F1 = 2 PR / (P + R) with P = correct / accepted and R = correct / gold.
    f1 = 2 * num_correct / (np.arange(1, len(is_correct) + 1) + len(sentences.gold))
    last = int(f1.argmax())
    following = min(last + 1, len(is_correct) - 1)
    return float(pairs.scores[last] + pairs.scores[following]) / 2


class _Best:
    """The k largest similarities of each row so far, and their columns."""

    def __init__(self, num_rows: int, k: int) -> None:
        self.scores = torch.full((num_rows, k), float("-inf"))
        self.indices = torch.zeros((num_rows, k), dtype=torch.int64)

    def update(self, rows: slice, first: int, scores: torch.Tensor) -> None:
        """Take the `scores` (B, C) of the given rows with the columns from `first` on into account."""
        k = self.scores.shape[1]
        # Later blocks change few rows, and a maximum is cheaper than the k largest.
        changed = torch.nonzero(scores.amax(dim=1) > self.scores[rows, -1]).flatten()
        block = torch.topk(scores[changed].contiguous(), min(k, scores.shape[1]), dim=1)
        changed += rows.start
        all_scores = torch.cat([self.scores[changed], block.values], dim=1)
        all_indices = torch.cat([self.indices[changed], block.indices + first], dim=1)
        best = torch.topk(all_scores, k, dim=1)
        self.scores[changed] = best.values
        self.indices[changed] = all_indices.gather(1, best.indices)

    def neighbours(self) -> Neighbours:
        return Neighbours(self.scores.numpy(), self.indices.numpy())


def _blocks(x: np.ndarray, y: np.ndarray, description: str) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """(rows, columns, x·y of them), block by block; the tensor is overwritten by the next block."""
    x_rows, y_rows = torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(np.ascontiguousarray(y))
    buffer = torch.empty(BLOCK_ROWS * BLOCK_COLUMNS)
    starts = [(row, column) for row in range(0, len(x), BLOCK_ROWS) for column in range(0, len(y), BLOCK_COLUMNS)]
    for row, column in tqdm(starts, desc=description, unit="block", disable=len(starts) < 100):
        rows, columns = slice(row, min(row + BLOCK_ROWS, len(x))), slice(column, min(column + BLOCK_COLUMNS, len(y)))
        shape = rows.stop - rows.start, columns.stop - columns.start
        scores = buffer[: shape[0] * shape[1]].view(shape)
        torch.mm(x_rows[rows], y_rows[columns].T, out=scores)
        yield rows, columns, scores
