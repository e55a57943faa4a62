"""What speaks for a link between two units of a pair: similar states, attention to each other, or a decoder's.

Letters of shapes: B pairs, M units of a source, N of a target, D width of a state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from analysis.forced_decoding import ForcedDecoder
from analysis.states import Words, states_of_pairs
from analysis.weights import on_units, plugged_in_weights, units_of_tokens
from finetune.understanding.retrieval.embeddings import Embedder


class Source(StrEnum):
    """Where evidence comes from."""

    STATES = "states"  # H, plugged out
    PLUGGED_STATES = "plugged-states"  # S, plugged in
    CROSS_ATTENTION = "cross-attention"  # the weights of S to H of the other sentence
    DECODER_ATTENTION = "decoder-attention"  # those of a translation model that writes the target

    @property
    def is_attention(self) -> bool:
        """Whether evidence are weights of attention, which layers have, but no embeddings."""
        return self in (Source.CROSS_ATTENTION, Source.DECODER_ATTENTION)


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


@dataclass(frozen=True)
class OneWayEvidence(Evidence):
    """The weights of the target's units on those of the source, (B, N, M): they are all that there is."""

    y_to_x: Tensor

    def similarities(self) -> Tensor:
        return self.y_to_x.transpose(1, 2)

    def probabilities(self) -> tuple[Tensor, Tensor]:
        """The weights, in place of both directions."""
        return self.similarities(), self.similarities()


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
    """The weights of cross-attention in the embedder's layers, the mean over their heads.

    What is attended to special tokens is left out.
    """
    for weights in plugged_in_weights(embedder, sources, targets):
        units_BTW, words_BW = units_of_tokens(weights.queries.words, by_piece)
        (x_units, y_units), (x_words, y_words) = units_BTW.chunk(2), words_BW.chunk(2)
        heads_means = (of_layer.mean(dim=1).chunk(2) for of_layer in weights.by_layer)
        yield (
            weights.numbers[: len(x_words)],
            (
                AttentionEvidence(x_words, y_words, on_units(x, x_units, y_units), on_units(y, y_units, x_units))
                for x, y in heads_means
            ),
        )


def decoder_evidence(
    decoder: ForcedDecoder, sources: Sequence[Words], targets: Sequence[Words], by_piece: bool
) -> Iterator[tuple[np.ndarray, Iterator[Evidence]]]:
    """Batches of pairs: their numbers (B,), and the weights of each of the decoder's layers, the mean over heads."""
    for weights in decoder.weights(sources, targets):
        x_units, x_words = units_of_tokens(weights.keys.words, by_piece)
        y_units, y_words = units_of_tokens(weights.queries.words, by_piece)
        yield (
            weights.numbers,
            (
                OneWayEvidence(x_words, y_words, on_units(of_layer.mean(dim=1), y_units, x_units))
                for of_layer in weights.by_layer
            ),
        )
