"""An untrained model of a task of sentences, such as natural language inference."""

from __future__ import annotations

from pathlib import Path

import torch
from xtreme_files import TINY

from finetune.encoders import open_encoder
from finetune.understanding.heads.build import build_head
from finetune.understanding.heads.build_model import build_model, limits_of
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.tasks.catalogues import task_named
from training.recipe.parsing import build_recipe
from veco.tokenizer import save_tokenizer


def write_classifier(tiny_model: Path, directory: Path, task_name: str, **fields: object) -> Path:
    """An untrained model of a task, with logits that differ."""
    own = {"task": task_name, "data": "files", "init_from": str(tiny_model), "output": str(directory)}
    recipe = build_recipe(UnderstandingRecipe, {**TINY, **own, **fields}, None)
    task, encoder = task_named(task_name), open_encoder(tiny_model)
    torch.manual_seed(2)
    model = build_model(recipe, task, build_head(task, limits_of(recipe)), encoder)
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.mul_(20)
    model.save_pretrained(directory)
    save_tokenizer(encoder.tokenizer, tiny_model, directory, max_tokens=64)
    return directory
