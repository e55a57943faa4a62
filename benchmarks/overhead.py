"""Measure the overhead of the training loop: pre-training as it runs against forward, backward and AdamW alone.

    python benchmarks/overhead.py [--repeats 5] [--updates 12] [--layers 6] [--width 384]

Both train the same model on the same batches in one process, in turn, with autocast to bfloat16, without DeepSpeed. The
loop reads shards and masks them, checks losses and gradients, counts losses by language and pair, writes metrics and
TensorBoard events (a line every 4 updates) and handles signals; the peer has its batches in memory and does none of
that. Saves and validations are not counted. The first two updates of each run warm up. It prints the ratio of each
repeat and their median; without overhead it is 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import torch
from loader import make_data
from torch import nn

from data_tools.cli import FlagParser, run_main
from data_tools.shards.manifest import Manifest
from pretrain.micro_batch import PACKED, SAMPLES
from pretrain.models.initial_model import build_model
from pretrain.pretraining import PretrainingTask, read_batches
from pretrain.recipe import PretrainRecipe
from training.engine.deepspeed_config import adam_settings
from training.meters import read_metrics
from training.run import train_run
from training.step import count_tokens

WARM_UP = 2
LINE_EVERY = 4
VOCAB_SIZE = 32_000


def loop_seconds(recipe: PretrainRecipe, data: Path, tokens: list[int]) -> float:
    """Seconds of all updates after the first two, from the run's own metrics; `tokens` are those of each update."""
    with tempfile.TemporaryDirectory() as directory:
        train_run(dataclasses.replace(recipe, output=directory), PretrainingTask.on(data))
        lines = {int(line["step"]): line for line in read_metrics(Path(directory))}
    seconds, begin = 0.0, WARM_UP
    for step in sorted(step for step in lines if step > WARM_UP):
        seconds += sum(tokens[begin:step]) / lines[step]["tokens_per_second"]
        begin = step
    return seconds


def bare_seconds(recipe: PretrainRecipe, data: Path, batches: list[dict[str, torch.Tensor]]) -> float:
    """Seconds of forward, backward, clipping and AdamW of all batches after the first two."""
    model = build_model(recipe, data, Manifest.load(data)).train()
    optimizer = torch.optim.AdamW(model.parameters(), **adam_settings(recipe), fused=True)
    started = 0.0
    for number, batch in enumerate(batches):
        if number == WARM_UP:
            started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(**batch).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm or float("inf"))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - started


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/benchmark-loader"), help="directory for the data")
    parser.add_argument("--repeats", type=int, default=7, help="(default: %(default)s)")
    parser.add_argument("--updates", type=int, default=14, help="updates per run (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=6, help="(default: %(default)s)")
    parser.add_argument("--width", type=int, default=384, help="(default: %(default)s)")
    options = parser.parse_args()
    data = make_data(options.directory / "overhead", 1, VOCAB_SIZE)
    recipe = PretrainRecipe(
        engine="plain",
        ds_config="zero3_bf16.json",
        num_hidden_layers=options.layers,
        hidden_size=options.width,
        num_attention_heads=options.width // 64,
        intermediate_size=4 * options.width,
        cross_attention_steps=0,
        steps=options.updates,
        save_every=options.updates,
        log_every=LINE_EVERY,
        mono_batch_pairs=2,
        bilingual_batch_pairs=8,
    )
    dataset, _ = read_batches(recipe, data, Manifest.load(data))
    batches = [dataset[number] for number in range(options.updates)]
    tokens = [int(count_tokens(batch)) for batch in batches]
    inputs = [{name: of for name, of in batch.items() if name not in (PACKED, SAMPLES)} for batch in batches]
    ratios = []
    for number in range(options.repeats):
        loop, bare = loop_seconds(recipe, data, tokens), bare_seconds(recipe, data, inputs)
        ratios.append(loop / bare)
        updates = options.updates - WARM_UP
        print(f"{number + 1}: an update of the loop {loop / updates:.3f} s, alone {bare / updates:.3f} s", flush=True)
    print(f"loop / model alone: {statistics.median(ratios):.3f} ({', '.join(f'{ratio:.3f}' for ratio in ratios)})")


if __name__ == "__main__":
    run_main(main)
