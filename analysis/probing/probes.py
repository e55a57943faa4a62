"""Probes: small functions that are trained to read something from the states of words.

The structural probes are those of Hewitt and Manning (2019): one matrix B each. Letters of shapes: B sentences, W
words, D width of a state, R rank, C tags.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from veco.labels import IGNORED

INITIAL = 0.05  # B is drawn uniformly from -0.05 to 0.05


class Probe(nn.Module, ABC):
    """A module from the states (B, W, D) of words to predictions, and its loss."""

    @abstractmethod
    def loss(self, predicted: Tensor, gold: Tensor) -> tuple[Tensor, int]:
        """(the mean over the items of a batch, their number); `gold` is IGNORED behind a sentence's words."""


class Projection(Probe):
    """The matrix B of a structural probe, here (D, R): a word's vector is state @ B."""

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.projection_DR = nn.Parameter(torch.empty(width, rank).uniform_(-INITIAL, INITIAL))

    def loss(self, predicted: Tensor, gold: Tensor) -> tuple[Tensor, int]:
        """The mean over sentences of the mean |predicted - gold| over their words, or pairs of words."""
        is_item = gold != IGNORED
        own = tuple(range(1, gold.dim()))
        errors = ((predicted - gold).abs() * is_item).sum(dim=own)
        return (errors / is_item.sum(dim=own)).mean(), len(gold)


class DistanceProbe(Projection):
    """Squared distances (B, W, W) of words: |B (h_i - h_j)|^2, fitted to edges in the tree."""

    def forward(self, states_BWD: Tensor) -> Tensor:
        words_BWR = states_BWD @ self.projection_DR
        squares_BW = words_BWR.square().sum(dim=2)
        products_BWW = words_BWR @ words_BWR.transpose(1, 2)
        return squares_BW[:, :, None] + squares_BW[:, None, :] - 2 * products_BWW


class DepthProbe(Projection):
    """Squared norms (B, W) of words: |B h_i|^2, fitted to their depths in the tree."""

    def forward(self, states_BWD: Tensor) -> Tensor:
        return (states_BWD @ self.projection_DR).square().sum(dim=2)


class TagProbe(Probe):
    """Logits (B, W, C) of a linear classifier."""

    def __init__(self, width: int, num_tags: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(width, num_tags)

    def forward(self, states_BWD: Tensor) -> Tensor:
        return self.classifier(states_BWD)

    def loss(self, predicted: Tensor, gold: Tensor) -> tuple[Tensor, int]:
        """The mean cross-entropy over the words whose tag is known, 0 without any."""
        total = cross_entropy(predicted.flatten(0, 1), gold.flatten(), ignore_index=IGNORED, reduction="sum")
        count = int((gold != IGNORED).sum())
        return total / max(count, 1), count


def padded(gold: Sequence[np.ndarray]) -> Tensor:
    """The gold numbers of some sentences, int64 (B, W) or (B, W, W), IGNORED behind their words."""
    width = max(map(len, gold))
    found = np.full((len(gold), *[width] * gold[0].ndim), IGNORED, dtype=np.int64)
    for row, own in enumerate(gold):
        found[row][(slice(len(own)),) * own.ndim] = own
    return torch.from_numpy(found)


def control_tags(words: Sequence[str], tags: Sequence[int], num_tags: int, seed: int) -> dict[str, int]:
    """A tag for each word type, drawn once: the control task of Hewitt and Liang (2019), which only memory can solve.

    Tags are drawn as often as they are among `tags`, those of the training words; `words` are all of any split.
    """
    counts = np.bincount(tags, minlength=num_tags)
    types = sorted(set(words))
    drawn = np.random.default_rng(seed).choice(num_tags, size=len(types), p=counts / counts.sum())
    return dict(zip(types, drawn.tolist(), strict=True))
