"""How tokens distribute their attention: over their own sentence, the other one and special tokens; sums over pairs.

Letters of shapes: B rows, H heads, T tokens that attend, S tokens that are attended to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from analysis.weights import PADDING, SOURCE, SPECIAL, TARGET, Weights

# What is measured of each token of a word; special tokens attend too, but are not counted.
METRICS = (
    "own",  # weight on tokens of its own sentence, itself included
    "other",  # weight on tokens of the other sentence
    "special",  # weight on special tokens
    "uniform",  # `other` if all weights were equal
    "crossing",  # whether the largest weight on a token of a word is on one of the other sentence
    "entropy",  # of all weights, in nats
    "spread",  # of the weights on the other sentence, scaled to a sum of 1: their entropy as a share of the largest
)
SIDES = {"source": SOURCE, "target": TARGET}


def token_metrics(weights_BHTS: Tensor, queries_BT: Tensor, keys_BS: Tensor) -> list[Tensor]:
    """METRICS of each token that attends, (B, H, T) each, NaN where a token has none.

    `queries_BT` and `keys_BS` are sides. Where no token of the other sentence is attended to, `spread` is that of the
    own sentence; `crossing` is NaN unless there are tokens of both. One token alone has no spread.
    """
    is_word, is_key = keys_BS >= 0, keys_BS != PADDING
    is_own = is_word[:, None] & (keys_BS[:, None] == queries_BT[:, :, None])
    is_other = is_word[:, None] & ~is_own
    own, other = (torch.where(part[:, None], weights_BHTS, 0) for part in (is_own, is_other))
    has_own, has_other = (part.any(dim=2)[:, None] for part in (is_own, is_other))
    spreading = torch.where(has_other[..., None], other, own)
    num_spreading = torch.where(has_other, is_other.sum(dim=2)[:, None], is_own.sum(dim=2)[:, None])
    uniform = is_other.sum(dim=2) / is_key.sum(dim=1)[:, None]
    return [
        own.sum(dim=3),
        other.sum(dim=3),
        torch.where((keys_BS == SPECIAL)[:, None, None], weights_BHTS, 0).sum(dim=3),
        uniform[:, None].expand(weights_BHTS.shape[:3]),
        only((other.amax(dim=3) > own.amax(dim=3)).float(), has_own & has_other),
        torch.special.entr(weights_BHTS).sum(dim=3),
        spread(spreading, num_spreading),
    ]


def only(values_BHT: Tensor, is_defined: Tensor) -> Tensor:
    """The values where they are defined, NaN elsewhere."""
    return torch.where(is_defined, values_BHT, torch.nan)


def spread(weights_BHTS: Tensor, num_keys: Tensor) -> Tensor:
    """The entropy of weights, scaled to a sum of 1, as a share of ln n; n are the keys, of which others have 0.

    NaN for one key, and for weights that are all 0.
    """
    total = weights_BHTS.sum(dim=3)
    entropy = torch.special.entr(weights_BHTS).sum(dim=3) / total + total.log()
    return only(entropy / num_keys.clamp(min=2).log(), (num_keys > 1) & (total > 0))


@dataclass(frozen=True)
class Shares:
    """Sums of METRICS over tokens, and the tokens that have each: float64 (sides, layers, heads, metrics)."""

    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, weights: Weights) -> Shares:
        """Those of a batch."""
        by_layer = [layer_sums(of_layer, weights.queries.sides, weights.keys.sides) for of_layer in weights.by_layer]
        sums, counts = (np.stack(part, axis=1) for part in zip(*by_layer, strict=True))
        return cls(sums, counts)

    def __add__(self, other: Shares) -> Shares:
        return Shares(self.sums + other.sums, self.counts + other.counts)

    def means(self, sides: Sequence[int] = (SOURCE, TARGET), of_heads: bool = False) -> np.ndarray:
        """Means over the tokens of `sides`, (layers, heads, metrics), or without `of_heads` over all heads too.

        NaN where no token has a metric.
        """
        axes = (0,) if of_heads else (0, 2)
        sums, counts = (part[list(sides)].sum(axis=axes) for part in (self.sums, self.counts))
        return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def layer_sums(weights_BHTS: Tensor, queries_BT: Tensor, keys_BS: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The sums of METRICS over the tokens of each side, and the numbers of these: float64 (sides, heads, metrics).

    Raises ValueError for weights that are NaN.
    """
    values = torch.stack(token_metrics(weights_BHTS, queries_BT, keys_BS), dim=-1)  # (B, H, T, metrics)
    entropies = values[..., METRICS.index("entropy")]
    if bool(((queries_BT >= 0)[:, None] & entropies.isnan()).any()):
        raise ValueError("the weights of attention are no numbers (NaN): the model's own weights are broken")
    is_side = torch.stack([queries_BT == side for side in SIDES.values()])  # (sides, B, T)
    counted = is_side[:, :, None, :, None] & ~values.isnan()
    sums = torch.where(counted, values.double(), 0).sum(dim=(1, 3))
    return sums.cpu().numpy(), counted.sum(dim=(1, 3)).double().cpu().numpy()
