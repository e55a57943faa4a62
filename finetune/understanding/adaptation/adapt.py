"""The way to adapt that a recipe asks for."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel

from finetune.understanding.adaptation.adapted import Adapted
from finetune.understanding.adaptation.fixed_states import HeadAlone
from finetune.understanding.adaptation.freezing import freeze_lowest
from finetune.understanding.adaptation.low_rank import LowRank
from finetune.understanding.adaptation.task_adapter import TaskAdapter
from finetune.understanding.recipe import ENCODER, UnderstandingRecipe
from finetune.understanding.rows.paired_rows import PairedRows


def adapt(model: PreTrainedModel, recipe: UnderstandingRecipe, sets: Sequence[PairedRows], pad: int) -> Adapted:
    """A model whose weights learn as a recipe says. Raises ValueError for a model of which it asks too much.

    `sets` are the rows of training and of each evaluation, which are padded with `pad`.
    """
    if recipe.freeze == ENCODER:
        return HeadAlone(model, recipe, sets, pad)
    if recipe.lora_rank:
        return LowRank(model, recipe)
    if recipe.adapter:
        return TaskAdapter(model, recipe)
    if recipe.freeze or recipe.freeze_layers:
        freeze_lowest(model, recipe.freeze_layers)
    return Adapted(model)
