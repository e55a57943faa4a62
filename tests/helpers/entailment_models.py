"""Small models with the head of a task of entailment, untrained, as a run writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from xtreme_files import TINY

from finetune.encoders import open_encoder
from finetune.understanding.heads.build import build_head
from finetune.understanding.heads.build_model import build_model, limits_of
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.tasks.catalogues import task_named
from training.recipe.parsing import build_recipe


def write_task_model(encoder: Path, task: str, directory: Path, **fields: Any) -> Path:
    """Write the encoder with a random head for the task; `fields` are of its recipe."""
    own = {"task": task, "data": "unread", "init_from": str(encoder), "output": str(directory), "max_length": 60}
    recipe = build_recipe(UnderstandingRecipe, {**TINY, **own, **fields}, None)
    definition = task_named(task)
    head = build_head(definition, limits_of(recipe))
    torch.manual_seed(3)
    model = build_model(recipe, definition, head, open_encoder(encoder))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "classifier" in name:
                parameter.add_(torch.randn_like(parameter))  # labels are not equally likely
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(directory)
    return directory
