"""Which units of two sentences are aligned by their similarities, for all pairs of a batch at once.

argmax, itermax and match are SimAlign's (Jalili Sabet et al., 2020), softmax is AwesomeAlign's (Dou and Neubig, 2021).
Letters of shapes: B pairs, M units of a source, N of a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from analysis.aligning.evidence import Evidence

ITERMAX_WEIGHT = 0.9  # SimAlign's alpha: of pairs of units of which one is aligned already
ITERMAX_SMALLEST = 3  # units that both sides must have for a further round


class Method(StrEnum):
    """How links follow from similarities."""

    ARGMAX = "argmax"  # each is the other's most similar unit
    ITERMAX = "itermax"  # argmax, and again among pairs of units of which at least one has no link
    MATCH = "match"  # the one-to-one links whose similarities have the largest sum
    SOFTMAX = "softmax"  # more probable than a threshold in both directions
    EACH_TARGET = "each-target"  # each target unit with the source unit that is most similar to it


@dataclass(frozen=True)
class Settings:
    """`rounds` are those of itermax, `threshold` that of softmax, a probability."""

    rounds: int = 2
    threshold: float = 0.001


def word_links(evidence: Evidence, methods: Sequence[Method], settings: Settings) -> dict[Method, list[np.ndarray]]:
    """The links of every pair by each method: int64 (links, 2), sorted, of words counted from 0.

    Words are linked where any of their units are.
    """
    is_cell, found = evidence.is_cell, {}
    for method in methods:
        if method is Method.SOFTMAX:
            is_link = likely_links(*evidence.probabilities(), is_cell, settings.threshold)
        elif method is Method.MATCH:
            is_link = match_links(evidence.similarities(), is_cell)
        elif method is Method.ITERMAX:
            is_link = itermax_links(evidence.similarities(), is_cell, settings.rounds)
        elif method is Method.EACH_TARGET:
            is_link = best_of_each(evidence.similarities(), is_cell, dim=1)
        else:
            is_link = argmax_links(evidence.similarities(), is_cell)
        found[method] = links_of_words(is_link, evidence.x_words, evidence.y_words)
    return found


def argmax_links(similarities: Tensor, is_cell: Tensor) -> Tensor:
    """bool (B, M, N): the cells that are the largest of their row and of their column, the first of equals."""
    return best_of_each(similarities, is_cell, dim=2) & best_of_each(similarities, is_cell, dim=1)


def best_of_each(similarities: Tensor, is_cell: Tensor, dim: int) -> Tensor:
    """bool (B, M, N): the largest cell of each row (`dim` 2) or column (`dim` 1), the first of equals."""
    if not is_cell.numel():
        return is_cell
    best = similarities.masked_fill(~is_cell, -torch.inf).argmax(dim=dim, keepdim=True)
    return torch.zeros_like(is_cell).scatter_(dim, best, True) & is_cell


def itermax_links(similarities: Tensor, is_cell: Tensor, rounds: int) -> Tensor:
    """bool (B, M, N): `argmax_links`, and those of further rounds, in which what is aligned counts less, or nothing.

    Similarities are at least 0. Pairs of at most two units on a side, and those of which a side is aligned completely,
    have no further round.
    """
    is_link = argmax_links(similarities, is_cell)
    is_row, is_column = is_cell.any(dim=2), is_cell.any(dim=1)
    is_large = torch.minimum(is_row.sum(dim=1), is_column.sum(dim=1)) >= ITERMAX_SMALLEST
    for _ in range(rounds - 1):
        is_free_row, is_free_column = is_row & ~is_link.any(dim=2), is_column & ~is_link.any(dim=1)
        goes_on = is_large & is_free_row.any(dim=1) & is_free_column.any(dim=1)
        is_both = is_free_row[:, :, None] & is_free_column[:, None, :]
        is_either = is_free_row[:, :, None] | is_free_column[:, None, :]
        weights = ITERMAX_WEIGHT * is_either + (1 - ITERMAX_WEIGHT) * is_both
        is_link = is_link | (argmax_links(similarities * weights, is_cell) & is_either & goes_on[:, None, None])
    return is_link


def match_links(similarities: Tensor, is_cell: Tensor) -> Tensor:
    """bool (B, M, N): as many one-to-one links as the shorter side has units, with the largest sum of similarities."""
    is_link = torch.zeros_like(is_cell, device="cpu")
    sizes = zip(is_cell.any(dim=2).sum(dim=1).tolist(), is_cell.any(dim=1).sum(dim=1).tolist(), strict=True)
    for number, (own, (m, n)) in enumerate(zip(similarities.cpu().numpy(), sizes, strict=True)):
        rows, columns = linear_sum_assignment(own[:m, :n], maximize=True)
        is_link[number, rows, columns] = True
    return is_link.to(is_cell.device)


def likely_links(forward: Tensor, backward: Tensor, is_cell: Tensor, threshold: float) -> Tensor:
    """bool (B, M, N): cells whose probabilities in both directions exceed the threshold."""
    return (forward > threshold) & (backward > threshold) & is_cell


def links_of_words(is_link: Tensor, x_words: Tensor, y_words: Tensor) -> list[np.ndarray]:
    """The links of the words of each pair, int64 (links, 2), sorted, from those of their units (B, M, N)."""
    pairs, rows, columns = is_link.nonzero(as_tuple=True)
    found = torch.stack([pairs, x_words[pairs, rows], y_words[pairs, columns]], dim=1).unique(dim=0).cpu().numpy()
    bounds = np.searchsorted(found[:, 0], np.arange(1, len(is_link)))
    return np.split(found[:, 1:], bounds)
