"""Measure updates of each objective on this machine, beside those of CA-MLM + TLM in the same process.

    python benchmarks/objectives.py [tiny] [small]          shapes (both); tiny takes minutes, small more
    python benchmarks/objectives.py --only mbart contrast   some objectives, or sums of them
    python benchmarks/objectives.py --quick                 a very small shape, to check that it runs (seconds)

Each objective with its default options is measured alone and, unless it has a loss of CA-MLM + TLM, added to that. An
update is forward pass, backward pass and step of a batch that is there already, as pretrain/train.py makes it on one
device; the two sides take turns. Medians of these. Tokens are those of x and y, each once, so tokens/s compare as time
does; a factor above 1 is slower than CA-MLM + TLM. Batches are of pairs, for an objective that is not for them, and
for a sum with it, of monolingual segments, where CA-MLM + TLM is CA-MLM. What reads a layer that a shape does not have
is left out, and named: --only "xlco(layer=3)".
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from gpu import Scale, ragged_batch
from model import medians
from torch import Tensor

from data_tools.cli import FlagParser, run_main
from data_tools.files.atomic import atomic_path
from data_tools.files.outputs import check_outputs
from pretrain.loss_and_metrics import PretrainingLosses, count_items, count_tokens
from pretrain.momentum import after_update, modules_with_momentum
from pretrain.recipe import PretrainRecipe
from training.engine.build import build_engine
from training.step import Batch, StepContext, on_device, train_step
from veco import VecoConfig, VecoForPreTraining
from veco.objectives.objective import BILINGUAL, MONO, TEACHER
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.table import OBJECTIVES
from veco.pretraining import DEFAULT_OBJECTIVE, check_layers

TINY = VecoConfig(
    **{"vocab_size": 8000, "num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4},
    intermediate_size=512,
)
SHAPES = {
    "tiny": Scale(TINY, {MONO: 64, BILINGUAL: 64}, 0, 0.0, "plain"),
    "small": Scale(VecoConfig.small(vocab_size=32_000), {MONO: 128, BILINGUAL: 128}, 0, 0.0, "plain"),
}
QUICK = Scale(dataclasses.replace(TINY, hidden_size=16, vocab_size=200), {MONO: 16, BILINGUAL: 16}, 0, 0.0, "plain")
COLUMNS = "| shape | objective | batches | ms/update | tokens/s | CA-MLM + TLM: tokens/s | factor |"


@dataclass(frozen=True)
class Row:
    """An objective's median update beside that of CA-MLM + TLM, in seconds, of batches of so many tokens."""

    shape: str
    objective: str
    kind: str
    tokens: int
    seconds: float
    baseline_seconds: float

    def __str__(self) -> str:
        speeds = f"{self.tokens / self.seconds:,.0f} | {self.tokens / self.baseline_seconds:,.0f}"
        factor = self.seconds / self.baseline_seconds
        return f"| {self.shape} | {self.objective} | {self.kind} | {1e3 * self.seconds:.1f} | {speeds} | {factor:.2f} |"


def sums_with(name: str) -> list[str]:
    """An objective alone, and added to CA-MLM + TLM unless both have a loss of the same name."""
    terms = {term.name for term in ObjectiveSum.of(name).terms}
    is_part = terms & {term.name for term in ObjectiveSum.of(DEFAULT_OBJECTIVE).terms}
    return [name] if is_part else [name, f"{DEFAULT_OBJECTIVE}+{name}"]


def update_of(objective: str, kind: str, scale: Scale, pairs: int) -> tuple[Callable[[], object], int]:
    """An update to repeat, and the tokens of its batch."""
    logs = Path(tempfile.gettempdir()) / "veco-benchmark-logs"
    recipe = PretrainRecipe(
        output=str(logs),
        engine=scale.engine,
        clip_norm=1.0,
        cpu_precision="float32",
        objective=objective,
        contrast_pairs=pairs,
    )
    torch.manual_seed(1)
    model = VecoForPreTraining(scale.config, objective).train()
    engine = build_engine(model, recipe, lambda step: 1.0, logs)
    engine.model.train()
    for module in modules_with_momentum(model).values():
        module.begin(model.veco)
    batch = on_device(ragged_batch(scale, recipe, kind, pairs), engine.device)
    losses = PretrainingLosses(recipe, scale.config, [(kind, "random")], engine, counts_flops=False)

    def count(part: Batch) -> Tensor:
        return count_items(part, losses.objective)

    def update() -> None:
        train_step(engine, [batch], losses, count, StepContext("benchmark"), count_tokens)
        after_update(model, engine)
        if engine.device.type == "cuda":
            torch.cuda.synchronize()

    return update, int(count_tokens(batch))


def measured(shape: str, scale: Scale, names: Sequence[str], pairs: int, repeats: int) -> list[Row]:
    """A row for each objective, printed when it is there."""
    rows = []
    for objective in names:
        whole = ObjectiveSum.of(objective)
        try:
            check_layers(whole, scale.config)
        except ValueError as error:
            print(f"| {shape} | {objective} | left out: {error} |")
            continue
        kind = BILINGUAL if whole.of_kind(BILINGUAL) == whole else MONO
        update, tokens = update_of(objective, kind, scale, pairs)
        baseline, _ = update_of(DEFAULT_OBJECTIVE, kind, scale, pairs)
        seconds = medians({"objective": update, "baseline": baseline}, repeats)
        rows.append(Row(shape, objective, kind, tokens, seconds["objective"], seconds["baseline"]))
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", choices=[*SHAPES, []], help="shapes to measure (all)")
    parser.add_argument("--only", nargs="+", metavar="OBJECTIVE", help="these objectives or sums (all)")
    parser.add_argument("--pairs", type=int, default=64, help="pairs of a batch, one group of contrasts (64)")
    parser.add_argument("--repeats", type=int, default=7, help="updates of each side whose median is taken (7)")
    parser.add_argument("--quick", action="store_true", help="a very small shape, two updates")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    arguments = parser.parse_args()
    check_outputs({"--json": arguments.json}, [])
    shapes = {"quick": QUICK} if arguments.quick else {name: SHAPES[name] for name in arguments.shapes or SHAPES}
    pairs, repeats = (8, 1) if arguments.quick else (arguments.pairs, arguments.repeats)
    alone = [name for name, kind in OBJECTIVES.items() if TEACHER not in kind.needs]
    names = arguments.only or [objective for name in alone for objective in sums_with(name)]
    print(f"{torch.get_num_threads()} threads; torch {torch.__version__}")
    print(COLUMNS, f"|{'---|' * COLUMNS.count(' |')}", sep="\n")
    rows = [row for shape, scale in shapes.items() for row in measured(shape, scale, names, pairs, repeats)]
    if arguments.json:
        with atomic_path(arguments.json) as temporary:
            temporary.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1), encoding="utf-8")


if __name__ == "__main__":
    run_main(main)
