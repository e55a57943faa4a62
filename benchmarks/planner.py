"""Memory and time by pretrain.plan against those of an update on this CPU, at three sizes.

    python benchmarks/planner.py [--repeats 3]

Each size is trained in a process of its own by the plain engine in float32, with random ids: a monolingual and a
bilingual micro-batch of full rows. Memory is the peak of an update (VmHWM, reset before it) over that of a process that
has imported everything. On a CPU with dropout attention weights are written out, so the planner counts them. Time is
processor time, the median of --repeats updates; the planner is given the rate of a matrix product, taken between them,
as the peak, and --mfu as the share of it that is reached at every size. A ratio is planned / measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from model import memory_now

from data_tools.cli import FlagParser, run_main
from data_tools.tokenizers.sentence_piece import PAD_ID
from pretrain.loss_and_metrics import count_items
from pretrain.micro_batch import PACKED
from pretrain.planning.activations import Storage
from pretrain.planning.cards import Card
from pretrain.planning.memory import Zero, rank_memory
from pretrain.planning.run_time import run_time
from pretrain.planning.workload import PairShape, Workload, plan_workload
from pretrain.recipe import PretrainRecipe
from pretrain.sources import BILINGUAL, MONO
from training.engine.plain_engine import PlainEngine
from training.step import Batch, StepContext, train_step
from veco import VecoForPreTraining
from veco.objectives.objective_sum import ObjectiveSum
from veco.packing import PackedViews
from veco.views import views_of

# Dropout, softmax, GELU and LayerNorm take time, too, in which nothing is multiplied.
SHARE_OF_PRODUCT = 0.55
PRODUCT = (512, 768, 3072)
# glibc gives large blocks back at once, so that the peak is that of what lives.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**18), "MALLOC_TRIM_THRESHOLD_": str(2**18)}


@dataclasses.dataclass(frozen=True)
class Size:
    layers: int
    width: int
    vocabulary: int
    mono_pairs: int
    mono_length: int
    bilingual_pairs: int
    bilingual_length: int

    def recipe(self) -> PretrainRecipe:
        return PretrainRecipe(
            output="-",
            engine="plain",
            ds_config="cpu.json",
            num_hidden_layers=self.layers,
            hidden_size=self.width,
            num_attention_heads=self.width // 64,
            intermediate_size=4 * self.width,
            mono_batch_pairs=self.mono_pairs,
            mono_max_length=self.mono_length,
            bilingual_batch_pairs=self.bilingual_pairs,
            bilingual_max_length=self.bilingual_length,
        )

    def workload(self) -> Workload:
        return plan_workload(self.recipe(), None, [], self.vocabulary)


SIZES = {
    "small": Size(2, 256, 8_000, 8, 128, 16, 64),
    "medium": Size(4, 384, 16_000, 8, 128, 16, 64),
    "large": Size(6, 512, 32_000, 12, 128, 24, 64),
}


def random_batch(shape: PairShape, pairs: int, vocab_size: int) -> Batch:
    """A batch of full rows, of which as many tokens are predicted as the planner expects."""
    tensors = shape.example(pairs, vocab_size)
    return {**tensors, PACKED: PackedViews.of(views_of(tensors), PAD_ID)}


def measure(size: Size, repeats: int) -> dict[str, float]:
    """Peak bytes, and seconds of an update and of a float32 operation in a product, of this process."""
    resting = memory_now("VmRSS")
    workload = size.workload()
    torch.manual_seed(1)
    engine = PlainEngine(VecoForPreTraining(workload.config), workload.recipe, lambda step: 1.0, {})
    engine.model.train()
    shapes = {name: kind.longest for name, kind in workload.kinds.items()}
    pairs = {name: kind.batch_pairs for name, kind in workload.kinds.items()}
    whole = ObjectiveSum.of(workload.recipe.objective)
    batches = {name: random_batch(shapes[name], pairs[name], size.vocabulary) for name in (MONO, BILINGUAL)}

    def update(name: str) -> None:
        train_step(
            engine,
            [batches[name]],
            lambda model, batch, num_items: model(**batch, num_items_in_batch=num_items).losses,
            lambda batch: count_items(batch, whole),
            StepContext(where="benchmark"),
        )

    left, right = torch.randn(PRODUCT[0], PRODUCT[1]), torch.randn(PRODUCT[1], PRODUCT[2])
    operations = 2 * PRODUCT[0] * PRODUCT[1] * PRODUCT[2]
    seconds: dict[str, list[float]] = {name: [] for name in (*batches, "operation")}
    for name in batches:  # Adam's moments are made
        update(name)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts again from here
    for _ in range(repeats):
        for name in batches:
            start = time.process_time()
            update(name)
            seconds[name].append(time.process_time() - start)
            start = time.process_time()
            for _ in range(10):
                left @ right
            seconds["operation"].append((time.process_time() - start) / 10 / operations)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    update_seconds = statistics.mean(medians[name] for name in batches)
    kilobytes = 1000 * (memory_now("VmHWM") - resting)  # of 1,024 bytes, as Linux has them
    return {"peak": 1024 * kilobytes, "seconds": update_seconds, "operation": medians["operation"]}


def planned(size: Size, operation_seconds: float, share: float) -> tuple[float, float]:
    """(peak bytes, seconds of an update) as the planner has them."""
    workload = size.workload()
    zero = Zero(0, 1, "float32", "cpu.json", is_fused=False)
    pairs = {name: kind.batch_pairs for name, kind in workload.kinds.items()}
    memory = rank_memory(workload, zero, Storage(4, on_cpu=True), pairs, accumulation=1)
    card = Card("CPU", 0, {"float32": 1e-12 / operation_seconds}, "a product in this run")
    return memory.total, run_time(workload, card, "float32", 1, share, recompute=False).seconds


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="updates of each kind (3)")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument(
        "--mfu", type=float, default=SHARE_OF_PRODUCT, help="assumed share of a product's rate (%(default)s)"
    )
    parser.add_argument("--worker", choices=SIZES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(measure(SIZES[arguments.worker], arguments.repeats)))
        return
    print("| size | parameters | MB planned | measured | ratio | s/update planned | measured | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.sizes:
        command = [sys.executable, __file__, "--worker", name, "--repeats", str(arguments.repeats)]
        with tempfile.TemporaryDirectory() as directory:
            result = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **ALLOCATOR}, cwd=directory
            )
        told = json.loads(result.stdout)
        memory, seconds = planned(SIZES[name], told["operation"], arguments.mfu)
        print(
            f"| {name} | {SIZES[name].workload().num_parameters:,} | {memory / 1e6:.0f} | {told['peak'] / 1e6:.0f} |"
            f" {memory / told['peak']:.2f} | {seconds:.2f} | {told['seconds']:.2f} | {seconds / told['seconds']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    run_main(main)
