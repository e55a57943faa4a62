"""The way to adapt that a recipe asks for."""

from __future__ import annotations

from transformers import PreTrainedModel

from finetune.understanding.adaptation.adapted import Adapted
from finetune.understanding.adaptation.fixed_states import HeadAlone
from finetune.understanding.adaptation.freezing import freeze_lowest
from finetune.understanding.adaptation.low_rank import LowRank
from finetune.understanding.recipe import ENCODER, UnderstandingRecipe


def adapt(model: PreTrainedModel, recipe: UnderstandingRecipe, pad: int) -> Adapted:
    """A model whose weights learn as a recipe says. Raises ValueError for a model of which it asks too much."""
    if recipe.freeze == ENCODER:
        return HeadAlone(model, recipe, pad)
    if recipe.lora_rank:
        return LowRank(model, recipe)
    if recipe.freeze or recipe.freeze_layers:
        freeze_lowest(model, recipe.freeze_layers)
    return Adapted(model)
