"""What every training does between its command line and torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.devices import use_device
from training.launch import relaunch_on_cpu
from training.recipe.parsing import RecipeT, parse_recipe


def recipe_of_this_process(
    recipe_class: type[RecipeT], argv: Sequence[str], default_config: Path | None = None
) -> RecipeT:
    """The recipe of a command line, on the device that it names.

    Where it asks for several processes on a CPU, these take the place of this one. Raises ValueError for a recipe that
    cannot be, or a card that torch cannot use.
    """
    recipe = parse_recipe(recipe_class, argv, default_config=default_config)
    use_device(recipe.device)
    relaunch_on_cpu(recipe.cpu_processes if recipe.engine == "deepspeed" else 1)
    return recipe
