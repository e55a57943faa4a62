"""Checkpoints of a model of eight weights, by the plain engine."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from training.checkpoints.saving import Contents, save_checkpoint
from training.engine.plain_engine import PlainEngine
from training.recipe.base import TrainingRecipe

DATA = {"data_fingerprint": "abc"}


def plain_engine(recipe: TrainingRecipe, start_step: int = 0) -> PlainEngine:
    return PlainEngine(nn.Linear(3, 2), recipe, lambda step: 1.0 / (step + 1), {}, start_step)


def update(engine: PlainEngine) -> None:
    engine.backward(engine.model(torch.ones(1, 3)).square().sum())
    engine.step()


def save(engine: PlainEngine, run_dir: Path, step: int, recipe: TrainingRecipe) -> None:
    """Save a checkpoint that holds a model's directory beside the engine's state."""

    def add_files(directory: Path) -> None:
        (directory / "model").mkdir()
        (directory / "model" / "config.json").write_text("{}")

    save_checkpoint(engine, run_dir, step, Contents(recipe=recipe, state=DATA, add_files=add_files))
