"""Sentence contrast: the translation of a sentence is told from the other sentences of its group (InfoNCE).

As LaBSE (Feng et al., 2022) has it: cosine, both directions, and optionally its additive margin. For a group of pairs
(x_i, y_i) with cosines c, temperature t and margin m the loss of pair i is the mean of

    -log exp((c(x_i, y_i) - m) / t) / (exp((c(x_i, y_i) - m) / t) + sum_{n != i} exp(c(x_i, y_n) / t))

and of the same with x and y exchanged.

Shape suffixes: R pairs of a group; G pairs that are contrasted, of all ranks; D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from veco.config import VecoConfig
from veco.objectives.objective import ItemLosses, Route, Term
from veco.objectives.shared.pooling import POOLINGS, Everyones, groups, pooled, products, with_other_ranks
from veco.objectives.shared.sentence_pairs import SentencePairs
from veco.objectives.states import LAST, States
from veco.packing import PackedViews


@dataclass(frozen=True)
class SentenceContrast(SentencePairs):
    """InfoNCE over the sentences of a group, pooled on path H after `layer` (-1: the last).

    `across_ranks`: in training a pair is contrasted with all pairs of the micro-batches that the ranks have at the same
    time, rather than with its group. There are more negatives, and losses depend on the number of ranks and of
    accumulation steps: the promise that they do not is given up. Validation contrasts inside groups in any case.
    """

    name = "contrast"

    temperature: float = 0.05
    margin: float = 0.0
    layer: int = LAST
    pooling: str = "mean"
    across_ranks: bool = False

    def problems(self) -> list[str]:
        return [
            *([] if self.temperature > 0 else [f"temperature {self.temperature} must be above 0"]),
            *([] if self.margin >= 0 else [f"margin {self.margin} must not be negative"]),
            *([] if self.pooling in POOLINGS else [f"pooling {self.pooling!r} must be one of {', '.join(POOLINGS)}"]),
        ]

    @property
    def contrasts_pairs(self) -> bool:
        return not self.across_ranks

    @property
    def deepest_layer(self) -> int | None:
        return None if self.layer == LAST else self.layer

    def layers(self, config: VecoConfig) -> tuple[int, ...]:
        return () if self.layer == LAST else (self.layer,)

    def losses(self, states: States, module: nn.Module | None) -> list[ItemLosses]:
        packed = states.batch.packed
        x, y = (pooled(states.of(Route(view), self.layer), packed, view, self.pooling) for view in self.views)
        if self.across_ranks and states.batch.encoder.training:
            return self.items([info_nce(x, y, self.temperature, self.margin, with_other_ranks(x, y))])
        return [contrasted(self.terms[0], packed, x, y, self.temperature, self.margin)]


def contrasted(
    term: Term, packed: PackedViews, x_RD: Tensor, y_RD: Tensor, temperature: float, margin: float = 0.0
) -> ItemLosses:
    """The losses of a term whose items are pairs of sentences, contrasted inside the batch's groups."""
    found = [info_nce(of_x, of_y, temperature, margin) for of_x, of_y in groups(packed, x_RD, y_RD)]
    values, is_right = (torch.cat(parts) for parts in zip(*found, strict=True))
    rows = torch.arange(len(x_RD), device=x_RD.device)
    return ItemLosses(term.name, values, rows, is_right, term.counts[0])


def info_nce(
    x_RD: Tensor, y_RD: Tensor, temperature: float, margin: float, everyones: Everyones | None = None
) -> tuple[Tensor, Tensor]:
    """The loss of each pair (R,), and whether x's translation is the most similar y: the formula above.

    The pairs are contrasted with each other, or with `everyones` pairs, among which they are.
    """
    of_all = everyones or Everyones(x_RD, y_RD, 0)
    targets = of_all.first + torch.arange(len(x_RD), device=x_RD.device)
    is_own_RG = targets.unsqueeze(1) == torch.arange(len(of_all.x_GD), device=x_RD.device)
    losses, is_right = [], targets < 0
    for own_RD, others_GD in ((y_RD, of_all.x_GD), (x_RD, of_all.y_GD)):
        similarities_RG = products(normalize(own_RD, dim=1), normalize(others_GD, dim=1))
        is_right = similarities_RG.argmax(1) == targets  # of the last, from x to y
        logits_RG = (similarities_RG - margin * is_own_RG) / temperature
        losses.append(cross_entropy(logits_RG, targets, reduction="none"))
    return torch.stack(losses).mean(0), is_right
