"""Compare AdamW with Muon in pre-training: the loss of held-out text by updates, and by seconds of the processor.

    python benchmarks/optimizers.py --data PREPARED --output FILE.jsonl [--adamw 2e-3 4e-3 8e-3] [--muon 0.02 0.04]

PREPARED is a directory of data_tools.prepare with held-out text. Both train the same model on the same batches, with
the settings of multi30k.yaml but for size, rate, and a warm-up over a tenth of the updates. A finished run is a line of
FILE.jsonl and is not repeated. Seconds are the process's own in forward, backward, clipping and update: what else is on
the machine, the loader and the validations do not count. Use one thread.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from data_tools.cli import FlagParser, run_main
from data_tools.shards.manifest import Manifest
from pretrain.micro_batch import SAMPLES
from pretrain.models.initial_model import build_model
from pretrain.pretraining import read_batches
from pretrain.recipe import PretrainRecipe
from pretrain.validation import validate
from training.engine.plain_engine import PlainEngine
from training.recipe.parsing import parse_recipe
from veco.objectives.objective_sum import ObjectiveSum

VALIDATIONS = 15  # of a run


@dataclass(frozen=True)
class Outcome:
    """A run: its losses on held-out text by the number of updates, and its seconds."""

    optimizer: str
    updates: int
    pairs: int
    losses: dict[str, float]
    model_seconds: float  # forward, backward
    update_seconds: float  # clipping, optimizers

    @property
    def seconds(self) -> float:
        """Seconds of one update."""
        return (self.model_seconds + self.update_seconds) / self.updates

    @property
    def final(self) -> float:
        return list(self.losses.values())[-1]

    def is_peer_of(self, other: Outcome) -> bool:
        """Whether this is AdamW alone on the same batches."""
        return self.optimizer.startswith("AdamW") and (self.updates, self.pairs) == (other.updates, other.pairs)


def train(recipe: PretrainRecipe) -> Outcome:
    """Train one model in float32, and validate it at regular distances."""
    data = Path(recipe.data)
    manifest = Manifest.load(data)
    batches, valid = read_batches(recipe, data, manifest)
    engine = PlainEngine(build_model(recipe, data, manifest).train(), recipe, recipe.lr_factor, ds_config={})
    objective = ObjectiveSum.of(recipe.objective)
    losses, model_seconds, update_seconds = {}, 0.0, 0.0
    for step in range(recipe.steps):
        inputs = {name: tensor for name, tensor in batches[step].items() if name != SAMPLES}
        begin = time.process_time()
        engine.backward(engine.model(**inputs, objective=objective).loss)
        middle = time.process_time()
        engine.step()
        model_seconds += middle - begin
        update_seconds += time.process_time() - middle
        if (step + 1) % max(1, recipe.steps // VALIDATIONS) == 0:
            found = validate(engine, valid, objective)
            losses[str(step + 1)] = sum(found[f"{kind}_loss"] for kind in valid.batches)
            print(f"{told(recipe)}: {losses[str(step + 1)]:.3f} after {step + 1}", file=sys.stderr, flush=True)
    return Outcome(told(recipe), recipe.steps, recipe.bilingual_batch_pairs, losses, model_seconds, update_seconds)


def told(recipe: PretrainRecipe) -> str:
    """The optimizers of a run and their rates."""
    muon = f"Muon {recipe.muon_learning_rate}, " if recipe.optimizer == "muon" else ""
    return f"{muon}AdamW {recipe.learning_rate}"


def report(outcomes: Sequence[Outcome]) -> None:
    """Print each run; and when it reached the lowest final loss that AdamW reached alone in as many updates."""
    for one in outcomes:
        peers = [other.final for other in outcomes if other.is_peer_of(one)]
        reached = [int(step) for step, loss in one.losses.items() if loss <= min(peers, default=0.0)]
        when = f"; {min(peers):.3f} after {reached[0]}, {reached[0] * one.seconds:.0f} s" if reached else ""
        share = one.update_seconds / (one.model_seconds + one.update_seconds)
        print(
            f"{one.optimizer}: {one.updates} updates of {one.pairs} pairs, loss {one.final:.3f}, "
            f"{one.seconds:.3f} s an update, {share:.1%} of it in the optimizer{when}"
        )


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a directory of data_tools.prepare")
    parser.add_argument("--output", type=Path, required=True, help="file of finished runs, a line of JSON each")
    parser.add_argument("--adamw", type=float, nargs="*", default=[2e-3, 4e-3, 8e-3], help="its rates (%(default)s)")
    parser.add_argument("--muon", type=float, nargs="*", default=[0.02, 0.04], help="its rates (%(default)s)")
    parser.add_argument("--others", type=float, default=4e-3, help="AdamW's rate beside Muon (%(default)s)")
    parser.add_argument("--updates", type=int, default=300, help="of a run (%(default)s)")
    parser.add_argument("--pairs", type=int, default=32, help="sentence pairs of a batch (%(default)s)")
    parser.add_argument("--layers", type=int, default=2, help="of the model (%(default)s)")
    parser.add_argument("--width", type=int, default=128, help="of the model (%(default)s)")
    options = parser.parse_args()
    lines = options.output.read_text(encoding="utf-8").splitlines() if options.output.exists() else []
    outcomes = [Outcome(**json.loads(line)) for line in lines]
    done = {(one.optimizer, one.updates, one.pairs) for one in outcomes}
    for recipe in recipes_of(options):
        if (told(recipe), recipe.steps, recipe.bilingual_batch_pairs) not in done:
            outcomes.append(train(recipe))
            with open(options.output, "a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(outcomes[-1])) + "\n")
    report(outcomes)


def recipes_of(options: argparse.Namespace) -> list[PretrainRecipe]:
    """multi30k.yaml with another size and number of updates, for each rate."""
    flags = {
        "config": "multi30k",
        "data": options.data,
        "output": options.output.parent,
        "num_hidden_layers": options.layers,
        "hidden_size": options.width,
        "initializer_range": 0.08,  # as in demo.yaml, which is as narrow
        "intermediate_size": 4 * options.width,
        "bilingual_batch_pairs": options.pairs,
        "steps": options.updates,
        "warmup_steps": options.updates // 10,
        "validate_batches": 4,
        "learning_rate": options.others,
    }
    recipe = parse_recipe(PretrainRecipe, [f"--{name}={value}" for name, value in flags.items()])
    return [
        *(replace(recipe, learning_rate=rate) for rate in options.adamw),
        *(replace(recipe, optimizer="muon", muon_learning_rate=rate) for rate in options.muon),
    ]


if __name__ == "__main__":
    run_main(main)
