"""Measure VECO-large on this machine's CUDA card: tokens per second, share of the card's rate, memory.

    python benchmarks/gpu.py [--pairs 16] [--peak_tflops 989.4]
    python benchmarks/gpu.py --tiny                                    a small shape on any device, also a CPU

24 layers of width 1024 and 250,002 pieces in bfloat16, as pretrain/train.py runs them on one card: pairs of 512 tokens,
15 % to predict, forward, backward and AdamW, ZeRO stages 1 and 3, with and without recomputed activations. If memory
does not suffice, half as many pairs are tried. Each operation of the mathematics counts once, so recomputation lowers
the share. It takes under five minutes, one of them for DeepSpeed to compile its Adam the first time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from zero import synthetic_batch

from data_tools.cli import FlagParser
from pretrain.flops import TRAINING_PASSES, forward_flops
from pretrain.recipe import PretrainRecipe
from training.engine.build import build_engine
from training.engine.processes import shut_down
from training.launch import run_on_ranks
from veco import VecoConfig, VecoForPreTraining

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ("zero1_bf16.json", "zero3_bf16.json")
OUT_OF_MEMORY = 3  # exit code of a worker
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


@dataclasses.dataclass(frozen=True)
class Shape:
    config: VecoConfig
    length: int
    updates: int
    max_seconds: float


def shape_of(tiny: bool) -> Shape:
    if tiny:
        config = VecoConfig.small()
        config.update({"vocab_size": 2000, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128})
        return Shape(config, 32, 2, 10.0)
    return Shape(VecoConfig.large(), 512, 20, 15.0)


def worker(arguments: argparse.Namespace) -> None:
    """Train with one config, then print time and memory as a line of JSON."""
    shape = shape_of(arguments.tiny)
    logs = Path(tempfile.gettempdir()) / "veco-benchmark-logs"
    has_card = torch.cuda.is_available()
    try:
        model = VecoForPreTraining(shape.config)
        if arguments.recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        recipe = PretrainRecipe(output=str(logs), ds_config=arguments.configs[0])
        engine = build_engine(model, recipe, lambda step: 1.0, logs)
        batch = synthetic_batch(shape.config, arguments.pairs, shape.length, engine.device)
        flops = TRAINING_PASSES * float(forward_flops(shape.config, batch, "ca_mlm"))
        seconds, updates = 0.0, 0
        for update in range(3 + shape.updates):
            if update == 3:  # after one-time allocation and compilation
                start = time.perf_counter()
            engine.backward(torch.stack(list(engine.model(**batch).losses.values())).sum())
            engine.step()
            if has_card:
                torch.cuda.synchronize()
            if update >= 3:
                seconds, updates = time.perf_counter() - start, updates + 1
                if seconds > shape.max_seconds:
                    break
    except torch.OutOfMemoryError:
        sys.exit(OUT_OF_MEMORY)
    told = {
        "tokens": 2 * arguments.pairs * shape.length * updates / seconds,
        "tflops": flops * updates / seconds / 1e12,
        "milliseconds": 1e3 * seconds / updates,
        "gib": torch.cuda.max_memory_allocated() / 2**30 if has_card else None,
    }
    print(json.dumps(told), flush=True)
    shut_down()


def run(config: str, recompute: bool, arguments: argparse.Namespace) -> tuple[int, dict[str, float] | str]:
    """(pairs, a worker's results or its last line) for the largest number of pairs, up to the requested, that fits."""
    pairs = arguments.pairs
    flags = ["--worker", "--configs", config, *(["--recompute"] if recompute else [])]
    flags += ["--tiny"] if arguments.tiny else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    while True:
        command = [sys.executable, __file__, *flags, "--pairs", str(pairs)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode == OUT_OF_MEMORY and pairs > 1:
            pairs //= 2
            continue
        lines = (result.stderr if result.returncode else result.stdout).strip().splitlines() or ["no message"]
        return pairs, lines[-1] if result.returncode else json.loads(lines[-1])


def peak_tflops(name: str) -> float | None:
    return next((rate for part, rate in CARDS.items() if part in name), None)


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", default=CONFIGS, help="files of ds_configs/")
    parser.add_argument("--pairs", type=int, default=16, help="pairs per batch, halved until they fit (16)")
    parser.add_argument("--peak_tflops", type=float, help="the card's dense bfloat16 rate, for cards not in the table")
    parser.add_argument("--tiny", action="store_true", help="a small shape")
    parser.add_argument("--recompute", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    has_card = torch.cuda.is_available()
    if not has_card and not arguments.tiny:
        sys.exit("no CUDA card here; --tiny runs a small shape on the CPU")
    card = torch.cuda.get_device_name() if has_card else "CPU"
    peak = arguments.peak_tflops or peak_tflops(card)
    print(f"{card}; torch {torch.__version__}; dense bfloat16 {f'{peak:.0f} TFLOP/s' if peak else 'rate unknown'}")
    print("| ds_config | recompute | pairs | ms/update | tokens/s | TFLOP/s | share of peak | peak GiB |")
    print("|---|---|---|---|---|---|---|---|")
    for config in arguments.configs:
        for recompute in (False, True):
            pairs, told = run(config, recompute, arguments)
            if isinstance(told, str):
                print(f"| {config} | {recompute} | {pairs} | {told} |")
                continue
            share = f"{told['tflops'] / peak:.1%}" if peak else "?"
            memory = "-" if told["gib"] is None else f"{told['gib']:.1f}"
            print(
                f"| {config} | {'yes' if recompute else 'no'} | {pairs} | {told['milliseconds']:.0f} |"
                f" {told['tokens']:,.0f} | {told['tflops']:.3g} | {share} | {memory} |",
                flush=True,
            )


if __name__ == "__main__":
    run_on_ranks(main)
