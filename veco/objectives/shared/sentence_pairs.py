"""What objectives share that compare the sentences of a pair as vectors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from veco.objectives.objective import BILINGUAL, Count, ItemLosses, Objective, Route, Term
from veco.views import CLEAN_X, CLEAN_Y, X, Y


@dataclass(frozen=True)
class SentencePairs(Objective):
    """Base of objectives with a loss for each pair, from the states of both sentences on path H.

    `masked`: they read the masked sentences, which masked language modelling reads anyway, rather than clean ones.
    """

    kinds = (BILINGUAL,)

    masked: bool = False

    @property
    def views(self) -> tuple[str, ...]:
        return (X, Y) if self.masked else (CLEAN_X, CLEAN_Y)

    @property
    def routes(self) -> tuple[Route, ...]:
        return tuple(Route(view) for view in self.views)

    @property
    def terms(self) -> tuple[Term, ...]:
        return (Term(self.name, (Count(self.views[0], of_rows=True),), is_of_tokens=False),)

    def items(self, of_groups: Iterable[tuple[Tensor, Tensor]]) -> list[ItemLosses]:
        """The losses of all pairs, and whether each came out right, from those of one group after the other."""
        values, is_right = (torch.cat(parts) for parts in zip(*of_groups, strict=True))
        rows = torch.arange(len(values), device=values.device)
        return [ItemLosses(self.name, values, rows, is_right, self.terms[0].counts[0])]
