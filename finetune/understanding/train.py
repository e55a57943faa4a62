"""Fine-tune VECO, or another encoder, for a task.

deepspeed finetune/understanding/train.py --config RECIPE.yaml --task TASK [--any_field value]
"""

from __future__ import annotations

import sys

from finetune.understanding.recipe import UnderstandingRecipe
from training.entry_point import settle_process
from training.launch import EXIT_STOPPED, run_on_ranks
from training.recipe.parsing import parse_recipe


def parse_arguments() -> UnderstandingRecipe:
    return parse_recipe(UnderstandingRecipe, sys.argv[1:])


def main() -> None:
    recipe = parse_arguments()
    settle_process(recipe)

    # Importing torch takes seconds, so only after --help, mistakes and the relaunch.
    from finetune.understanding.understanding_task import UnderstandingTask
    from training.run import train_run

    # The task builds data and model; the run builds the engine and fits the model.
    if not train_run(recipe, UnderstandingTask.of_run):
        sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    run_on_ranks(main)
