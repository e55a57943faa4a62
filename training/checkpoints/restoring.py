"""Load a checkpoint into an engine and a model."""

from __future__ import annotations

from pathlib import Path

import torch

from training.checkpoints.finding import read_state
from training.checkpoints.zero_shards import checkpoint_weights
from training.engine.deepspeed_config import layout_of
from training.engine.interface import Engine
from training.launch import tell
from training.recipe.base import TrainingRecipe


def has_other_layout(checkpoint: Path, recipe: TrainingRecipe) -> bool:
    """Whether a checkpoint lies in other files than this run's: other ranks, ZeRO stage, precision or engine."""
    return read_state(checkpoint)["layout"] != layout_of(recipe)


def restore(engine: Engine, checkpoint: Path) -> None:
    """Load the state of a checkpoint into an engine.

    With the same layout the run continues bit for bit. With another one the model must have had the checkpoint's
    weights (`load_weights`) before the engine; sums are then taken in another order, and dropout draws other numbers.
    """
    before = read_state(checkpoint)["layout"]
    if before == engine.layout:
        engine.load(checkpoint)
        return
    changes = [f"{name} {before[name]} -> {now}" for name, now in engine.layout.items() if before[name] != now]
    tell(f"{checkpoint}: {', '.join(changes)}; losses match up to rounding if dropout is 0")
    engine.load_other_layout(checkpoint)


def load_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Give `model` the weights of a checkpoint, one tensor after another."""
    weights = checkpoint_weights(checkpoint)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in weights:
                raise ValueError(f"{checkpoint}: holds no weight {name}")
            parameter.copy_(weights[name].read())
