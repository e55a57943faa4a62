"""The options of a run's batches, update by update, as its recipe has them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pretrain.batches import PretrainingOptions
from pretrain.recipe import PretrainRecipe


def options_of(recipe: PretrainRecipe) -> PretrainingOptions:
    """The options of a recipe without its stages."""
    values = vars(recipe)
    return PretrainingOptions(**{field.name: values[field.name] for field in dataclasses.fields(PretrainingOptions)})


@dataclass(frozen=True)
class RecipeCourse:
    """The options of each update of a recipe with stages."""

    recipe: PretrainRecipe

    def at(self, step: int) -> PretrainingOptions:
        """The options of update `step`, from 0."""
        return options_of(self.recipe.at(step))

    def borders(self) -> list[int]:
        """The updates, ascending from 0, from which on samples may be drawn otherwise than before."""
        return sorted(set().union(*(stage.borders() for stage in self.recipe.stages_in_turn())))
