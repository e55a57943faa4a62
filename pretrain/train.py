"""Pre-train VECO: `deepspeed pretrain/train.py --config RECIPE.yaml [--any_field value]`.

Without arguments it trains the tiny recipe on the embedded corpus.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pretrain.embedded import embedded_data
from pretrain.recipe import PretrainRecipe
from training.launch import EXIT_STOPPED, relaunch_on_cpu, run_on_ranks
from training.recipe.parsing import parse_recipe

TINY = Path(__file__).resolve().parent / "recipes" / "tiny.yaml"


def main() -> None:
    recipe = parse_recipe(PretrainRecipe, sys.argv[1:], default_config=TINY)
    relaunch_on_cpu(recipe.cpu_processes if recipe.engine == "deepspeed" else 1)
    run_dir = Path(recipe.output)
    data_dir = embedded_data(run_dir.parent / "embedded") if recipe.data == "embedded" else Path(recipe.data)

    from pretrain.pretraining import pretrain  # torch takes seconds to import: not before help, mistakes and relaunch

    if not pretrain(recipe, data_dir, run_dir):
        sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    run_on_ranks(main)
