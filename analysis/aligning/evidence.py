"""What speaks for a link between two units of a pair: similar states, or attention to each other.

Letters of shapes: B pairs, T tokens with special ones, M units of a source, N of a target, D width of a state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from analysis.states import Words, encode_plugged_in, stacked_pairs, states_of_pairs
from finetune.understanding.retrieval.embeddings import Embedder
from veco.labels import IGNORED


class Source(StrEnum):
    """Where evidence comes from."""

    STATES = "states"  # H, plugged out
    PLUGGED_STATES = "plugged-states"  # S, plugged in
    CROSS_ATTENTION = "cross-attention"  # the weights of S to H of the other sentence


@dataclass(frozen=True)
class Evidence(ABC):
    """The evidence of one layer; `x_words` (B, M) and `y_words` (B, N) are the words of units, -1 behind the last."""

    x_words: Tensor
    y_words: Tensor

    @property
    def is_cell(self) -> Tensor:
        """bool (B, M, N): what is a pair of units."""
        return (self.x_words >= 0)[:, :, None] & (self.y_words >= 0)[:, None, :]

    @abstractmethod
    def similarities(self) -> Tensor:
        """(B, M, N), at least 0."""

    @abstractmethod
    def probabilities(self) -> tuple[Tensor, Tensor]:
        """(B, M, N) of each target unit for a source unit, and of each source unit for a target unit."""


@dataclass(frozen=True)
class StateEvidence(Evidence):
    """The states of both sides, (B, M, D) and (B, N, D); see `cosine_similarities` for `distortion`."""

    x_states: Tensor
    y_states: Tensor
    distortion: float

    def similarities(self) -> Tensor:
        return cosine_similarities(self.x_states, self.y_states, self.is_cell, self.distortion)

    def probabilities(self) -> tuple[Tensor, Tensor]:
        """The softmax of dot products over each row, and over each column."""
        scores = self.x_states @ self.y_states.transpose(1, 2)
        inside = scores.masked_fill(~self.is_cell, torch.finfo(scores.dtype).min)
        return inside.softmax(dim=2), inside.softmax(dim=1)


@dataclass(frozen=True)
class AttentionEvidence(Evidence):
    """The weights of x's units on those of y, (B, M, N), and of y's on those of x, (B, N, M)."""

    x_to_y: Tensor
    y_to_x: Tensor

    def similarities(self) -> Tensor:
        """The mean of both directions."""
        return (self.x_to_y + self.y_to_x.transpose(1, 2)) / 2

    def probabilities(self) -> tuple[Tensor, Tensor]:
        return self.x_to_y, self.y_to_x.transpose(1, 2)


def evidence_of_pairs(
    embedder: Embedder,
    sources: Sequence[Words],
    targets: Sequence[Words],
    source: Source,
    by_piece: bool,
    distortion: float,
) -> Iterator[tuple[np.ndarray, Iterator[Evidence]]]:
    """Batches of pairs: their numbers (B,), and the evidence of each of the embedder's layers in turn."""
    if source is Source.CROSS_ATTENTION:
        yield from attention_of_pairs(embedder, sources, targets, by_piece)
        return
    plug_in = source is Source.PLUGGED_STATES
    for numbers, x, y in states_of_pairs(embedder, sources, targets, by_piece, plug_in):
        yield (
            numbers,
            (StateEvidence(x.words, y.words, *own, distortion) for own in zip(x.states, y.states, strict=True)),
        )


def cosine_similarities(x_BMD: Tensor, y_BND: Tensor, is_cell: Tensor, distortion: float) -> Tensor:
    """(cos + 1) / 2 of all pairs of units (B, M, N), lowered where their relative positions differ.

    The factor is 1 - kappa (i/(m-1) - j/(n-1))^2, and 1 where a side has one unit.
    """
    similarities = (normalize(x_BMD, dim=2) @ normalize(y_BND, dim=2).transpose(1, 2) + 1) / 2
    if not distortion:
        return similarities
    m, n = is_cell.any(dim=2).sum(dim=1), is_cell.any(dim=1).sum(dim=1)
    rows = torch.arange(is_cell.shape[1], device=m.device) / (m - 1).clamp(min=1)[:, None]
    columns = torch.arange(is_cell.shape[2], device=m.device) / (n - 1).clamp(min=1)[:, None]
    factors = 1 - distortion * (rows[:, :, None] - columns[:, None, :]) ** 2
    return torch.where(((m > 1) & (n > 1))[:, None, None], similarities * factors, similarities)


def attention_of_pairs(
    embedder: Embedder, sources: Sequence[Words], targets: Sequence[Words], by_piece: bool
) -> Iterator[tuple[np.ndarray, Iterator[Evidence]]]:
    """The weights of cross-attention in the embedder's layers, the mean over their heads: VECO (ACL 2021), eq. 7.

    A word's weights are the means of those of its pieces, and a weight on a word the sum of those on its pieces (Clark
    et al., 2019). What is attended to special tokens is left out.
    """
    for numbers, stacked, words_BT in stacked_pairs(embedder, sources, targets):
        s = encode_plugged_in(embedder, stacked, output_attentions=True)
        units_BTW, words_BW = units_of_tokens(words_BT, by_piece)
        (x_units, y_units), (x_words, y_words) = units_BTW.chunk(2), words_BW.chunk(2)
        heads_means = (s.cross_attentions[layer - 1].float().mean(dim=1).chunk(2) for layer in embedder.layers)
        yield (
            numbers,
            (
                AttentionEvidence(x_words, y_words, on_units(x, x_units, y_units), on_units(y, y_units, x_units))
                for x, y in heads_means
            ),
        )


def units_of_tokens(words_BT: Tensor, by_piece: bool) -> tuple[Tensor, Tensor]:
    """float (B, T, W): 1 where a token belongs to a unit; and the words (B, W) of units, -1 behind the last."""
    is_piece = words_BT != IGNORED
    units_BT = (is_piece.cumsum(dim=1) - 1 if by_piece else words_BT).where(is_piece, -1)
    units_BTW = one_hot(units_BT + 1, int(units_BT.max()) + 2)[:, :, 1:]
    words_BW = (units_BTW * (words_BT + 1)[:, :, None]).amax(dim=1) - 1
    return units_BTW.float(), words_BW


def on_units(weights_BTT: Tensor, own_BTM: Tensor, other_BTN: Tensor) -> Tensor:
    """The weights (B, M, N) of units on those of the other side, from those of tokens (B, T, T)."""
    num_tokens = own_BTM.sum(dim=1).clamp(min=1)
    return own_BTM.transpose(1, 2) @ weights_BTT @ other_BTN / num_tokens[:, :, None]
