"""What views are made with beside their pairs: word lists, and the options of the objectives that read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from pretrain.words.lexicons import Lexicons
from veco.objectives.objective import Objective
from veco.objectives.objective_sum import ObjectiveSum

ObjectiveT = TypeVar("ObjectiveT", bound=Objective)


@dataclass(frozen=True)
class Resources:
    """The objective that views are made for, and lexicons, which those of its parts need whose `needs` say so."""

    objective: ObjectiveSum = field(default_factory=lambda: ObjectiveSum(()))
    lexicons: Lexicons | None = None

    def options(self, kind: type[ObjectiveT]) -> ObjectiveT:
        """The part of the objective that is of a class, for a view that only this class reads."""
        return next(part for part in self.objective if isinstance(part, kind))
