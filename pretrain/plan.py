"""Plan a pre-training before cards are rented: memory, time, disk, languages, and what to choose.

    python -m pretrain.plan RECIPE --gpus 8 --gpu h100-80 [--set FIELD=VALUE …] [--data DATA] [--json FILE]

For each ZeRO stage, with and without recomputed activations: what a rank keeps, the largest micro-batch that fits in
90 % of the card and the accumulation steps that follow, seconds of an update and days of the run at an assumed share of
the card's peak. With DATA, which data_tools.prepare made, batches have its lengths, and tokens and epochs of each
language are printed. Ends with the lines for the recipe; the exit code is 1 where nothing fits.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.files.outputs import check_outputs
from data_tools.shards.manifest import MANIFEST_NAME, Manifest
from pretrain.planning.cards import CARDS, find_card
from training.recipe.shipped import shipped_file, shipped_names

RECIPES = Path(__file__).resolve().parent / "recipes"
# Large transformers reach 0.44 to 0.52 of A100s' peak (Megatron-LM, Narayanan et al., 2021, table 1), BERT-large 0.5 of
# a V100's ("DeepSpeed's fastest BERT training", 2020). VECO's layers are narrower than the former's.
SHARE_OF_PEAK = 0.35
EXIT_NOTHING_FITS = 1


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    names = ", ".join(shipped_names(RECIPES))
    add("recipe", metavar="RECIPE", help=f"a recipe of pretrain/train.py, or the name of one: {names}")
    add(
        "--set",
        nargs="+",
        default=[],
        metavar="FIELD=VALUE",
        help="fields of the recipe that differ from the file, such as objective=mlm+tlm steps=100000",
    )
    add("--gpus", type=int, required=True, help="number of cards, one rank on each")
    add("--gpu", metavar="CARD", help=f"which card: {', '.join(CARDS)}")
    add("--memory", type=float, metavar="GIB", help="memory of a card that is none of these, in GiB")
    add("--tflops", type=float, help="dense peak of a card that is none of these, at the recipe's precision")
    add("--data", type=Path, help="directory that data_tools.prepare made, for lengths, vocabulary and languages")
    add("--vocab_size", type=int, help="pieces of the vocabulary of a new model, where there are no data yet (250002)")
    add(
        "--mfu",
        type=float,
        default=SHARE_OF_PEAK,
        help="assumed share of the card's peak; the operations of recomputed layers come on top (%(default)s)",
    )
    add("--json", type=Path, metavar="FILE", help="also write everything to this file, in bytes and seconds")
    arguments = parser.parse_args()
    for name in ("gpus", "vocab_size"):
        value = vars(arguments)[name]
        if value is not None and value < 1:
            raise ValueError(f"--{name} {value} must be at least 1")
    if not 0 < arguments.mfu <= 1:
        raise ValueError(f"--mfu {arguments.mfu:g} must be above 0 and at most 1")
    return arguments


def fields_of(words: Sequence[str]) -> dict[str, str]:
    """The fields that `FIELD=VALUE` sets. Raises ValueError for anything else, and for a field that is set twice."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name in found:
            told = "is set twice" if equals else "expected FIELD=VALUE, such as steps=100000"
            raise ValueError(f"--set {word}: {told}")
        found[name] = value
    return found


def main() -> None:
    arguments = parse_arguments()
    recipe_path = shipped_file(arguments.recipe, RECIPES).expanduser()
    manifests = [arguments.data / MANIFEST_NAME] if arguments.data else []
    check_outputs({"--json": arguments.json}, [recipe_path, *manifests])
    manifest = Manifest.load(arguments.data) if arguments.data else None

    card = find_card(arguments.gpu, arguments.memory, arguments.tflops)

    # torch takes seconds to import: not before help and mistakes.
    from pretrain.planning.choice import make_plan
    from pretrain.planning.epochs import mean_lengths, read_contents, readings
    from pretrain.planning.report import plan_as_json, print_plan
    from pretrain.planning.workload import parts_of, plan_workload, read_recipe, recipe_precision
    from pretrain.pretraining import languages_of

    recipe = read_recipe(recipe_path, fields_of(arguments.set))
    if manifest:
        recipe = recipe.with_languages_of(*languages_of(manifest))
    parts = [part for _, part in parts_of(recipe)]
    contents = [read_contents(part, arguments.data, manifest) for part in parts] if manifest else []
    lengths = [mean_lengths(of_part, part.alpha) for of_part, part in zip(contents, parts, strict=bool(manifest))]
    workload = plan_workload(recipe, manifest, lengths, arguments.vocab_size)
    plan = make_plan(workload, card, arguments.gpus, recipe_precision(recipe), arguments.mfu)
    found = readings(workload, contents) if contents else []
    print_plan(plan, found)
    if arguments.json is not None:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps(plan_as_json(plan, found), indent=2) + "\n", encoding="utf-8")
    if plan.choice is None:
        print(
            f"nothing fits {card.name}: take more GPUs or a larger card, or a ds_config that offloads "
            "(zero3_offload_optimizer.json)",
            file=sys.stderr,
        )
        sys.exit(EXIT_NOTHING_FITS)


if __name__ == "__main__":
    run_main(main)
