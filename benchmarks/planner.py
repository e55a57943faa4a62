"""Memory and time by pretrain.plan against those of an update on this CPU, at three sizes.

    python benchmarks/planner.py [--repeats 3]

Each size is trained in processes of its own by the plain engine in float32, with random ids: a monolingual and a
bilingual micro-batch of full rows. Memory is the peak of an update (VmHWM, reset before it) over that of a process that
has updated a tiny model, so that libraries have loaded their code and taken their buffers; glibc gives back all but the
smallest blocks, which takes time, so that times are those of another process. On a CPU with dropout attention weights
are written out, so the planner counts them.

Time is processor time, the median of --repeats updates. The planner is given the rate of a matrix product, taken
between them, as the peak, and as the share of it that is reached the one of a rehearsal: the same updates of a model
with half of the layers, in a process of its own. So do those who plan a run: they rehearse what fits one card. A ratio
is planned / measured.
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
from collections.abc import Mapping
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
from training.engine.plain_engine import PlainEngine
from training.step import Batch, StepContext, train_step
from veco import VecoForPreTraining
from veco.objectives.objective_sum import ObjectiveSum
from veco.packing import PackedViews
from veco.views import views_of

PRODUCT = (512, 768, 3072)
# glibc gives blocks of this size back at once, so that the peak is that of what lives. Attention weights of short rows
# are blocks of some 100 KB; those that it keeps otherwise are a twentieth of the smallest size's peak.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**14), "MALLOC_TRIM_THRESHOLD_": str(2**14)}


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

    def half(self) -> Size:
        """The same with half of the layers."""
        return dataclasses.replace(self, layers=self.layers // 2)

    def workload(self) -> Workload:
        return plan_workload(self.recipe(), None, [], self.vocabulary)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Bytes at the peak of an update, its seconds, and those of a float32 operation in a product."""

    peak: float
    seconds: float
    operation: float


TINY = Size(1, 64, 100, 2, 16, 2, 16)
SIZES = {
    "small": Size(2, 256, 8_000, 8, 128, 16, 64),
    "medium": Size(4, 384, 16_000, 8, 128, 16, 64),
    "large": Size(6, 512, 32_000, 12, 128, 24, 64),
}


def random_batch(shape: PairShape, pairs: int, vocab_size: int) -> Batch:
    """A batch of full rows, of which as many tokens are predicted as the planner expects."""
    tensors = shape.example(pairs, vocab_size)
    return {**tensors, PACKED: PackedViews.of(views_of(tensors), PAD_ID)}


class Training:
    """A model of a size, and its updates."""

    def __init__(self, size: Size) -> None:
        workload = size.workload()
        torch.manual_seed(1)
        self.engine = PlainEngine(VecoForPreTraining(workload.config), workload.recipe, lambda step: 1.0, {})
        self.engine.model.train()
        self.objective = ObjectiveSum.of(workload.recipe.objective)
        self.batches = {
            name: random_batch(kind.longest, kind.batch_pairs, size.vocabulary) for name, kind in workload.kinds.items()
        }

    def update(self, name: str) -> None:
        """One update with the batch of that kind."""
        train_step(
            self.engine,
            [self.batches[name]],
            lambda model, batch, num_items: model(**batch, num_items_in_batch=num_items).losses,
            lambda batch: count_items(batch, self.objective),
            StepContext(where="benchmark"),
        )


def measure(size: Size, repeats: int) -> Measured:
    """An update of this process."""
    left, right = torch.randn(PRODUCT[0], PRODUCT[1]), torch.randn(PRODUCT[1], PRODUCT[2])
    operations = 2 * PRODUCT[0] * PRODUCT[1] * PRODUCT[2]
    tiny = Training(TINY)
    for name in tiny.batches:
        tiny.update(name)
    del tiny
    resting = memory_now("VmRSS")
    training = Training(size)
    seconds: dict[str, list[float]] = {name: [] for name in training.batches}
    of_operation = []
    for name in training.batches:  # Adam's moments are made
        training.update(name)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak starts again from here
    for _ in range(repeats):
        for name in training.batches:
            start = time.process_time()
            training.update(name)
            seconds[name].append(time.process_time() - start)
            start = time.process_time()
            for _ in range(10):
                left @ right
            of_operation.append((time.process_time() - start) / 10 / operations)
    kilobytes = 1000 * (memory_now("VmHWM") - resting)  # of 1,024 bytes, as Linux has them
    return Measured(
        1024 * kilobytes, statistics.mean(map(statistics.median, seconds.values())), statistics.median(of_operation)
    )


def in_a_process(name: str, repeats: int, *flags: str, allocator: Mapping[str, str] | None = None) -> Measured:
    """What a process of its own, with those settings of glibc, measures of a size."""
    command = [sys.executable, __file__, "--worker", name, "--repeats", str(repeats), *flags]
    with tempfile.TemporaryDirectory() as directory:
        result = subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(allocator or {})},
            cwd=directory,
        )
    return Measured(**json.loads(result.stdout))


def planned_bytes(size: Size) -> float:
    """The peak of an update as the planner has it."""
    workload = size.workload()
    zero = Zero(0, 1, "float32", "cpu.json")
    pairs = {name: kind.batch_pairs for name, kind in workload.kinds.items()}
    return rank_memory(workload, zero, Storage(4, on_cpu=True), pairs, accumulation=1).total


def planned_seconds(size: Size, operation_seconds: float, share: float) -> float:
    """Seconds of an update as the planner has them, at a share of a product's rate."""
    card = Card("CPU", 0, {"float32": 1e-12 / operation_seconds}, "a product in this run")
    return run_time(size.workload(), card, "float32", 1, share, recompute=False).seconds


def rehearsed_share(name: str, repeats: int) -> float:
    """The share of a product's rate that a model with half of the layers reaches."""
    found = in_a_process(name, repeats, "--half")
    return planned_seconds(SIZES[name].half(), found.operation, share=1.0) / found.seconds


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="updates of each kind (3)")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--mfu", type=float, help="share of a product's rate, instead of the rehearsed one")
    parser.add_argument("--worker", choices=SIZES, help=argparse.SUPPRESS)
    parser.add_argument("--half", action="store_true", help=argparse.SUPPRESS)  # the worker rehearses
    arguments = parser.parse_args()
    if arguments.worker:
        size = SIZES[arguments.worker]
        found = measure(size.half() if arguments.half else size, arguments.repeats)
        print(json.dumps(dataclasses.asdict(found)))
        return
    print("| size | parameters | MB planned | measured | ratio | share | s/update planned | measured | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in arguments.sizes:
        size = SIZES[name]
        share = arguments.mfu or rehearsed_share(name, arguments.repeats)
        found, peak = in_a_process(name, arguments.repeats), in_a_process(name, 1, allocator=ALLOCATOR).peak
        memory, seconds = planned_bytes(size), planned_seconds(size, found.operation, share)
        print(
            f"| {name} | {size.workload().parameters.model:,} | {memory / 1e6:.0f} | {peak / 1e6:.0f} |"
            f" {memory / peak:.2f} | {share:.2f} | {seconds:.2f} | {found.seconds:.2f} |"
            f" {seconds / found.seconds:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    run_main(main)
