"""Measure updates of VECO-large on this machine's CUDA card, beside those of a plain XLM-R.

    python benchmarks/gpu.py [--pairs 16] [--peak_tflops 989.4]
    python benchmarks/gpu.py --quick                                  a small shape on any device, also a CPU

24 layers of width 1024 and 250,002 pieces in bfloat16, updates as pretrain/train.py makes them on one card, from
batches in pinned memory to Adam's step. Rows are ragged: monolingual ones have 384 to 512 tokens, sentences of
bilingual pairs 8 to 80, four pairs for each monolingual one. The last row is transformers' XLM-R of the same shape, in
autocast with torch's AdamW: as many micro-batches of padded rows as take VECO's operations of a monolingual update.

Each operation of the mathematics counts once, so padding, recomputation and logits that no loss needs lower the share
of the card's rate (MFU). Waits are those of an update that torch's CUDA sync debug mode sees. The planned memory is
that of `pretrain.plan` for rows of the mean length. What does not fit is tried with half as many pairs. It takes under
five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from data_tools.cli import FlagParser
from data_tools.tokenizers.sentence_piece import FIRST_PIECE_ID
from data_tools.tokenizers.special_ids import SpecialIds
from pretrain.batches import PretrainingOptions, batch_of
from pretrain.flops import training_flops
from pretrain.loss_and_metrics import PretrainingLosses, count_items, count_tokens
from pretrain.micro_batch import PACKED
from pretrain.planning.activations import Storage
from pretrain.planning.memory import rank_memory, zero_of
from pretrain.planning.parameters import model_without_values, most_parameters
from pretrain.planning.workload import KindOfUpdate, PairShape, Part, Workload
from pretrain.recipe import PretrainRecipe
from pretrain.sources import BILINGUAL, MONO
from pretrain.views.pair import Sample
from pretrain.words.lexicons import Lexicons
from pretrain.words.pieces import WordPieces
from training.engine.build import build_engine
from training.engine.processes import shut_down
from training.launch import run_on_ranks
from training.step import Batch, StepContext, on_device, train_step
from veco import VecoConfig, VecoForPreTraining
from veco.objectives.objective_sum import ObjectiveSum
from veco.packing import Sizes
from veco.views import X, Y

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ("zero1_bf16.json",)
XLM_R = "xlm-r"
XLM_R_ROWS = 8  # of a micro-batch: it makes the logits of all their positions at once
OUT_OF_MEMORY = 3  # exit code of a worker
GIB = 2**30
WARM_UP = 3
COLUMNS = "step|ds_config|recompute|pairs|ms/update|tokens/s|TFLOP/s|MFU|waits|peak GiB|planned GiB"
# Dense bfloat16 TFLOP/s with float32 sums, from the vendors' data sheets, by part of the card's name; first match wins.
CARDS = {
    "B200": 2250.0,
    "GH200": 989.4,
    "H200": 989.4,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.4,
    "A100": 312.0,
    "A40": 149.7,
    "A10": 125.0,
    "L40S": 362.0,
    "L4": 121.0,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}


@dataclass(frozen=True)
class Scale:
    """A model's shape, the longest rows of each kind of batch, and how many updates are timed, for how long at most."""

    config: VecoConfig
    lengths: dict[str, int]
    updates: int
    max_seconds: float
    engine: str


@dataclass(frozen=True)
class Work:
    """An update to repeat: what it takes, by the mathematics and by the plan, and how to make it."""

    update: Callable[[], object]
    tokens: int
    flops: float
    planned_gib: float | None
    micro_batches: int = 1


def scale_of(quick: bool) -> Scale:
    if quick:
        config = VecoConfig.small(vocab_size=2000, hidden_size=64, num_attention_heads=4, intermediate_size=128)
        return Scale(config, {MONO: 64, BILINGUAL: 32}, 2, 10.0, "plain")
    return Scale(VecoConfig.large(), {MONO: 512, BILINGUAL: 128}, 20, 10.0, "deepspeed")


def ragged_batch(scale: Scale, recipe: PretrainRecipe, kind: str, pairs: int) -> Batch:
    """A batch as the loader makes it, of random pieces."""
    rng = np.random.default_rng(0)
    longest = scale.lengths[kind] - 2
    shortest, longest = (longest * 3 // 4, longest) if kind == MONO else (max(1, longest // 16), longest * 5 // 8)

    def text() -> np.ndarray:
        return rng.integers(FIRST_PIECE_ID, scale.config.vocab_size - 1, rng.integers(shortest, longest + 1))

    fields = PretrainingOptions.__dataclass_fields__
    options = PretrainingOptions(**{name: recipe.__dict__[name] for name in fields})
    name = "xx" if kind == MONO else "xx-yy"
    samples = [Sample(0, name, number, text(), text(), 0, number) for number in range(pairs)]
    size = scale.config.vocab_size
    no_lexicon = Lexicons(WordPieces(np.arange(size) % 3 == 0, np.zeros(size, bool)))  # words of three pieces
    batch = batch_of(kind, samples, options, SpecialIds.xlm_r(size), size, no_lexicon)
    return {name: value.pin_memory() for name, value in batch.items()} if torch.cuda.is_available() else batch


def operations(config: VecoConfig, batch: Batch, objective: str) -> float:
    return training_flops(config, batch[PACKED].sizes, ObjectiveSum.of(objective))


def veco_work(arguments: argparse.Namespace, scale: Scale, device: torch.device) -> Work:
    """An update through the step and the engine of pretrain/train.py."""
    logs, kind = Path(tempfile.gettempdir()) / "veco-benchmark-logs", arguments.worker
    recipe = PretrainRecipe(output=str(logs), engine=scale.engine, ds_config=arguments.configs[0], clip_norm=1.0)
    with device:
        model = VecoForPreTraining(scale.config).train()
    if arguments.recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    engine = build_engine(model, recipe, lambda step: 1.0, logs)
    engine.model.train()
    losses = PretrainingLosses(recipe, scale.config, [(kind, "random")], engine, counts_flops=True)
    batch = ragged_batch(scale, recipe, kind, arguments.pairs)
    tokens = int(count_tokens(batch))
    mean = round(tokens / arguments.pairs / 2)
    return Work(
        lambda: train_step(
            engine, [batch], losses, lambda part: count_items(part, losses.objective), StepContext("benchmark")
        ),
        tokens,
        operations(scale.config, batch, recipe.objective),
        planned_gib(recipe, scale.config, kind, arguments.pairs, mean, arguments.recompute),
    )


def planned_gib(
    recipe: PretrainRecipe, config: VecoConfig, kind: str, pairs: int, length: int, recompute: bool
) -> float:
    """The planner's memory of one rank for rows of this length."""
    rate = recipe.mono_mask_rate if kind == MONO else recipe.bilingual_mask_rate
    shape = PairShape(length, rate, ObjectiveSum.of(recipe.objective).of_kind(kind))
    most = most_parameters(model_without_values(recipe, config, None), [recipe])
    workload = Workload(recipe, config, (Part(1, {kind: KindOfUpdate(pairs, shape, shape)}),), most)
    stage = int(recipe.ds_config.removeprefix("zero")[0])
    zero = zero_of(stage, 1, "bf16", recipe.ds_config)
    return rank_memory(workload, zero, Storage(2, recompute), {kind: pairs}, accumulation=1).total / GIB


def xlm_r_work(arguments: argparse.Namespace, scale: Scale, device: torch.device) -> Work:
    """An update of transformers' XLM-R over about as many operations as VECO's monolingual one."""
    recipe = PretrainRecipe(output="x")
    wanted = operations(scale.config, ragged_batch(scale, recipe, MONO, arguments.pairs), recipe.objective)
    rows = min(XLM_R_ROWS, arguments.rows)
    batch = ragged_batch(scale, recipe, MONO, rows)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    sizes = batch[PACKED].sizes
    of_x = Sizes({X: sizes.lengths[X], Y: ()}, {X: sizes.num_predicted[X], Y: 0})
    of_one = training_flops(scale.config, of_x, ObjectiveSum.of("mlm"))
    micro_batches = max(1, round(wanted / of_one))
    fields = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    shape = {name: scale.config.__dict__[name] for name in (*fields, "max_position_embeddings")}
    with device:
        model = XLMRobertaForMaskedLM(XLMRobertaConfig(**shape, type_vocab_size=1, layer_norm_eps=1e-5)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def update() -> None:
        for _ in range(micro_batches):
            with torch.autocast(device.type, torch.bfloat16):
                loss = model(**on_device(inputs, device)).loss
            (loss / micro_batches).backward()
        float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        optimizer.step()
        optimizer.zero_grad()

    tokens = micro_batches * int(inputs["attention_mask"].sum())
    return Work(update, tokens, micro_batches * of_one, None, micro_batches)


def worker(arguments: argparse.Namespace) -> None:
    """Repeat an update, then print what it took as a line of JSON."""
    scale, has_card = scale_of(arguments.quick), torch.cuda.is_available()
    device = torch.device("cuda" if has_card else "cpu")
    try:
        work = (xlm_r_work if arguments.worker == XLM_R else veco_work)(arguments, scale, device)
        for _ in range(WARM_UP):  # one-time allocation and compilation
            work.update()
        waits = waits_of(work.update) if has_card else None
        seconds, updates, start = 0.0, 0, time.perf_counter()
        while updates < scale.updates and seconds < scale.max_seconds:
            work.update()
            if has_card:
                torch.cuda.synchronize()
            seconds, updates = time.perf_counter() - start, updates + 1
    except torch.OutOfMemoryError:
        sys.exit(OUT_OF_MEMORY)
    told = {
        "tokens": work.tokens * updates / seconds,
        "tflops": work.flops * updates / seconds / 1e12,
        "milliseconds": 1e3 * seconds / updates,
        "waits": waits,
        "gib": torch.cuda.max_memory_allocated() / GIB if has_card else None,
        "planned": work.planned_gib,
        "micro_batches": work.micro_batches,
    }
    print(json.dumps(told), flush=True)
    shut_down()


def waits_of(update: Callable[[], object]) -> int:
    """Operations of an update for which the host waits, as torch sees them."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            update()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in seen)


def run(step: str, config: str, recompute: bool, arguments: argparse.Namespace) -> tuple[int, dict[str, Any] | str]:
    """(pairs or rows, a worker's results or its last line) for the most, up to those asked for, that fit."""
    number = XLM_R_ROWS if step == XLM_R else arguments.pairs * (4 if step == BILINGUAL else 1)
    flags = ["--worker", step, "--configs", config, *["--recompute"] * recompute, *["--quick"] * arguments.quick]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    while True:
        sizes = ["--pairs", str(arguments.pairs), "--rows", str(number)] if step == XLM_R else ["--pairs", str(number)]
        command = [sys.executable, __file__, *flags, *sizes]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode == OUT_OF_MEMORY and number > 1:
            number //= 2
            continue
        lines = (result.stderr if result.returncode else result.stdout).strip().splitlines() or ["no message"]
        return number, lines[-1] if result.returncode else json.loads(lines[-1])


def row(step: str, config: str, recompute: bool, peak: float | None, arguments: argparse.Namespace) -> str:
    """A row of the table."""
    number, told = run(step, config, recompute, arguments)
    if isinstance(told, str):
        return f"| {step} | {config} | {told} |"
    pairs = f"{told['micro_batches']} x {number} rows" if step == XLM_R else str(number)
    cells = [
        *(step, config, "yes" if recompute else "no", pairs),
        *(f"{told['milliseconds']:.0f}", f"{told['tokens']:,.0f}", f"{told['tflops']:.3g}"),
        f"{told['tflops'] / peak:.1%}" if peak else "?",
        "-" if told["waits"] is None else str(told["waits"]),
        *("-" if told[name] is None else f"{told[name]:.3g}" for name in ("gib", "planned")),
    ]
    return f"| {' | '.join(cells)} |"


def peak_tflops(name: str) -> float | None:
    return next((rate for part, rate in CARDS.items() if part in name), None)


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=CONFIGS, help="files of ds_configs/ (zero1_bf16.json)")
    parser.add_argument("--pairs", type=int, default=16, help="monolingual pairs per batch, halved until they fit (16)")
    parser.add_argument("--peak_tflops", type=float, help="the card's dense bfloat16 rate, for cards not in the table")
    parser.add_argument("--quick", action="store_true", help="a small shape, with the plain engine")
    parser.add_argument("--recompute", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=(MONO, BILINGUAL, XLM_R), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    has_card = torch.cuda.is_available()
    if not has_card and not arguments.quick:
        sys.exit("no CUDA card here; --quick runs a small shape on the CPU")
    card = torch.cuda.get_device_name() if has_card else "CPU"
    peak = arguments.peak_tflops or peak_tflops(card)
    rate = f"{peak:g} TFLOP/s" if peak else "rate unknown"
    print(f"{card}; torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}; dense bfloat16 {rate}")
    print(f"| {' | '.join(COLUMNS.split('|'))} |", f"|{'---|' * len(COLUMNS.split('|'))}", sep="\n")
    for config in arguments.configs:
        for recompute in (False, True):
            for kind in (MONO, BILINGUAL):
                print(row(kind, config, recompute, peak, arguments), flush=True)
    print(row(XLM_R, "-", False, peak, arguments), flush=True)


if __name__ == "__main__":
    run_on_ranks(main)
