"""What every training does between its command line and torch."""

from __future__ import annotations

from training.devices import use_device
from training.launch import relaunch_on_cpu
from training.recipe.base import TrainingRecipe


def settle_process(recipe: TrainingRecipe) -> None:
    """Take the device that a recipe names; on a CPU, processes take the place of this one where it asks for several.

    Raises ValueError for a card that torch cannot use.
    """
    use_device(recipe.device)
    relaunch_on_cpu(recipe.cpu_processes if recipe.engine == "deepspeed" else 1)
