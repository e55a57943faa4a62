"""Pre-train VECO: `deepspeed pretrain/train.py --config RECIPE.yaml [--any_field value]`.

Without arguments it trains the tiny recipe on the embedded corpus.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pretrain.embedded import embedded_data
from pretrain.recipe import PretrainRecipe
from training.entry_point import settle_process
from training.launch import EXIT_STOPPED, run_on_ranks
from training.recipe.parsing import parse_recipe

TINY = Path(__file__).resolve().parent / "recipes" / "tiny.yaml"


def parse_arguments() -> PretrainRecipe:
    return parse_recipe(PretrainRecipe, sys.argv[1:], default_config=TINY)


def main() -> None:
    recipe = parse_arguments()
    settle_process(recipe)
    data_dir = (
        embedded_data(Path(recipe.output).parent / "embedded") if recipe.data == "embedded" else Path(recipe.data)
    )

    # Importing torch takes seconds, so only after --help, mistakes and the relaunch.
    from pretrain.pretraining import PretrainingTask
    from training.run import train_run

    # The task builds data and model; the run builds the engine and fits the model.
    if not train_run(recipe, PretrainingTask.on(data_dir)):
        sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    run_on_ranks(main)
