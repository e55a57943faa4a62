"""Sentence contrast: the translation of a sentence is told from the other sentences of its group (InfoNCE).

As LaBSE (Feng et al., 2022) has it: cosine, both directions, and optionally its additive margin. For a group of pairs
(x_i, y_i) with cosines c, temperature t and margin m the loss of pair i is the mean of

    -log exp((c(x_i, y_i) - m) / t) / (exp((c(x_i, y_i) - m) / t) + sum_{n != i} exp(c(x_i, y_n) / t))

and of the same with x and y exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from veco.config import VecoConfig
from veco.objectives.objective import BILINGUAL, Count, ItemLosses, Objective, Route, Term
from veco.objectives.pooling import POOLINGS, groups, pooled
from veco.objectives.states import LAST, States
from veco.views import CLEAN_X, CLEAN_Y, X, Y


@dataclass(frozen=True)
class SentenceContrast(Objective):
    """InfoNCE over the sentences of a group, pooled on path H after `layer` (-1: the last).

    `masked`: it reads the masked sentences, which masked language modelling reads anyway, rather than clean ones.
    """

    name = "contrast"
    kinds = (BILINGUAL,)

    temperature: float = 0.05
    margin: float = 0.0
    layer: int = LAST
    pooling: str = "mean"
    masked: bool = False

    def problems(self) -> list[str]:
        return [
            *([] if self.temperature > 0 else [f"temperature {self.temperature} must be above 0"]),
            *([] if self.margin >= 0 else [f"margin {self.margin} must not be negative"]),
            *([] if self.pooling in POOLINGS else [f"pooling {self.pooling!r} must be one of {', '.join(POOLINGS)}"]),
        ]

    @property
    def views(self) -> tuple[str, ...]:
        return (X, Y) if self.masked else (CLEAN_X, CLEAN_Y)

    @property
    def routes(self) -> tuple[Route, ...]:
        return tuple(Route(view) for view in self.views)

    @property
    def terms(self) -> tuple[Term, ...]:
        return (Term(self.name, (Count(self.views[0], of_rows=True),), is_of_tokens=False),)

    def layers(self, config: VecoConfig) -> tuple[int, ...]:
        return () if self.layer == LAST else (self.layer,)

    def losses(self, states: States, module: nn.Module | None) -> list[ItemLosses]:
        packed = states.batch.packed
        x, y = (pooled(states.of(Route(view), self.layer), packed, view, self.pooling) for view in self.views)
        found = [info_nce(of_x, of_y, self.temperature, self.margin) for of_x, of_y in groups(packed, x, y)]
        values, is_right = (torch.cat(parts) for parts in zip(*found, strict=True))
        rows = torch.arange(len(x), device=x.device)
        return [ItemLosses(self.name, values, rows, is_right, self.terms[0].counts[0])]


def info_nce(x_RD: Tensor, y_RD: Tensor, temperature: float, margin: float) -> tuple[Tensor, Tensor]:
    """The loss of each pair (R,), and whether x's translation is the most similar y: the formula above."""
    similarities_RR = normalize(x_RD, dim=1) @ normalize(y_RD, dim=1).t()
    targets = torch.arange(len(x_RD), device=x_RD.device)
    logits_RR = (similarities_RR - margin * torch.eye(len(x_RD), device=x_RD.device)) / temperature
    both = (cross_entropy(logits, targets, reduction="none") for logits in (logits_RR, logits_RR.t()))
    return sum(both, torch.zeros_like(x_RD[:, 0])) / 2, similarities_RR.argmax(1) == targets
