"""Fine-tune VECO for a task of XTREME.

deepspeed finetune/understanding/train.py --config RECIPE.yaml --task TASK [--any_field value]
"""

from __future__ import annotations

import sys

from finetune.understanding.recipe import UnderstandingRecipe
from training.devices import use_device
from training.launch import EXIT_STOPPED, relaunch_on_cpu, run_on_ranks
from training.recipe.parsing import parse_recipe


def main() -> None:
    recipe = parse_recipe(UnderstandingRecipe, sys.argv[1:])
    use_device(recipe.device)
    relaunch_on_cpu(recipe.cpu_processes if recipe.engine == "deepspeed" else 1)

    # Importing torch takes seconds, so only after --help, mistakes and the relaunch.
    from finetune.understanding.understanding_task import UnderstandingTask
    from training.run import train_run

    # The task builds data and model; the run builds the engine and fits the model.
    if not train_run(recipe, UnderstandingTask.of_run):
        sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    run_on_ranks(main)
