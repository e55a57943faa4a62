"""Fine-tune VECO for translation: `deepspeed finetune/mt/train.py --config RECIPE.yaml [--any_field value]`."""

from __future__ import annotations

import sys

from finetune.mt.recipe import TranslationRecipe
from training.devices import use_device
from training.launch import EXIT_STOPPED, relaunch_on_cpu, run_on_ranks
from training.recipe.parsing import parse_recipe


def main() -> None:
    recipe = parse_recipe(TranslationRecipe, sys.argv[1:])
    use_device(recipe.device)
    relaunch_on_cpu(recipe.cpu_processes if recipe.engine == "deepspeed" else 1)

    # Importing torch takes seconds, so only after --help, mistakes and the relaunch.
    from finetune.mt.translation_task import TranslationTask
    from training.run import train_run

    # The task builds data and model; the run builds the engine and fits the model.
    if not train_run(recipe, TranslationTask.of_run):
        sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    run_on_ranks(main)
