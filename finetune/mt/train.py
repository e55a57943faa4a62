"""Fine-tune VECO for translation: `deepspeed finetune/mt/train.py --config RECIPE.yaml [--any_field value]`."""

from __future__ import annotations

import sys

from finetune.mt.recipe import TranslationRecipe
from training.entry_point import settle_process
from training.launch import EXIT_STOPPED, run_on_ranks
from training.recipe.parsing import parse_recipe


def parse_arguments() -> TranslationRecipe:
    return parse_recipe(TranslationRecipe, sys.argv[1:])


def main() -> None:
    recipe = parse_arguments()
    settle_process(recipe)

    # Importing torch takes seconds, so only after --help, mistakes and the relaunch.
    from finetune.mt.translation_task import TranslationTask
    from training.run import train_run

    # The task builds data and model; the run builds the engine and fits the model.
    if not train_run(recipe, TranslationTask.of_run):
        sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    run_on_ranks(main)
