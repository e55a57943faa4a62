"""A run whose checkpoints are due every five updates, two of which are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from plain_checkpoints import plain_engine

from training.engine.plain_engine import PlainEngine
from training.recipe.base import TrainingRecipe


@pytest.fixture
def recipe(tmp_path: Path) -> TrainingRecipe:
    return TrainingRecipe(output=str(tmp_path), engine="plain", save_every=5, keep_checkpoints=2, learning_rate=0.1)


@pytest.fixture
def engine(recipe: TrainingRecipe) -> PlainEngine:
    torch.manual_seed(0)
    return plain_engine(recipe)
