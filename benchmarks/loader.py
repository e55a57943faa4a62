"""Measure how pre-training reads shards: time to the first batch by corpus size, batches per second, share of waiting.

`python benchmarks/loader.py` writes shards of 1 MB and 1 GB of random sentences below `--directory`, once, and prints a
table. Ids are in XLM-R's vocabulary, lengths and masks are those of VECO-large.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from data_tools.cli import FlagParser, run_main
from data_tools.shards.format import ShardInfo, ShardWriter
from data_tools.shards.manifest import MANIFEST_NAME, MANIFEST_VERSION, Manifest
from pretrain.batches import PretrainingBatches, PretrainingOptions
from pretrain.pretraining import PretrainingTask
from pretrain.recipe import PretrainRecipe
from training.meters import read_metrics
from training.run import train_run

VOCAB_SIZE = 250_002
BYTES_A_TOKEN = 4
LONGEST_SENTENCE = 50  # lengths are uniform, so a sentence has about 25 tokens
SENTENCES_A_DOCUMENT = 40
SENTENCES_AT_ONCE = 100_000
OPTIONS = PretrainingOptions(
    seed=1,
    alpha=0.5,
    mono_batch_pairs=8,
    bilingual_batch_pairs=32,
    mono_max_length=512,
    bilingual_max_length=128,
    mono_mask_rate=0.15,
    bilingual_mask_rate=0.25,
    contrast_pairs=PretrainRecipe.contrast_pairs,
)
TIMED_BATCHES = 100
FIRST_BATCH = """
import sys, time
from pathlib import Path
import torch
from data_tools.shards.manifest import Manifest
from training.loop import micro_batches
from pretrain.recipe import PretrainRecipe
from pretrain.pretraining import read_batches

if __name__ == "__main__":
    recipe = PretrainRecipe(output="x", mono_max_length=512, bilingual_max_length=128)
    start = time.perf_counter()
    data = Path(sys.argv[1])
    batches, _ = read_batches(recipe, data, Manifest.load(data))
    next(micro_batches(batches, 0, 10, int(sys.argv[2])))
    print(time.perf_counter() - start)
"""


def write_shard(data: Path, prefix: str, num_sentences: int, vocab_size: int, rng: np.random.Generator) -> ShardInfo:
    """Info of a new shard of random sentences."""
    with ShardWriter(data / prefix, vocab_size) as writer:
        for start in range(0, num_sentences, SENTENCES_AT_ONCE):
            lengths = rng.integers(1, LONGEST_SENTENCE, size=min(SENTENCES_AT_ONCE, num_sentences - start))
            ids = rng.integers(4, vocab_size - 1, size=lengths.sum(), dtype=np.int32)
            writer.add_sequences(ids, lengths, np.arange(SENTENCES_A_DOCUMENT, len(lengths) + 1, SENTENCES_A_DOCUMENT))
    return writer.info(prefix)


def make_data(data: Path, megabytes: int, vocab_size: int = VOCAB_SIZE) -> Path:
    """A data directory with `.bin` files of that total size: half of it one language, half pairs of two."""
    if (data / MANIFEST_NAME).exists():
        return data
    rng = np.random.default_rng(1)
    num_sentences = megabytes * 10**6 // BYTES_A_TOKEN // (LONGEST_SENTENCE // 2)
    mono = {"en": [write_shard(data, "mono/en/00000", num_sentences // 2, vocab_size, rng)]}
    pairs = {
        lang: write_shard(data, f"parallel/de-en/00000.{lang}", num_sentences // 4, vocab_size, rng)
        for lang in ("de", "en")
    }
    (data / "tokenizer").mkdir(exist_ok=True)
    Manifest(MANIFEST_VERSION, "0" * 64, vocab_size, mono, {"de-en": [pairs]}).save(data)
    return data


def first_batch_seconds(data: Path, num_workers: int, repeats: int) -> float:
    """Median time, in new processes, from manifest to first batch, without importing libraries."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(FIRST_BATCH)
        script.flush()
        command = [sys.executable, script.name, str(data), str(num_workers)]
        runs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(repeats)]
    return statistics.median(map(float, runs))


def tokens_per_second(data: Path) -> dict[str, float]:
    """Tokens of x and y per second that one process reads and masks, by kind of batch."""
    batches = PretrainingBatches(data, Manifest.load(data), OPTIONS, 0, 1, 1)
    speeds = {}
    for offset, kind in enumerate(batches.kinds):
        num_tokens = 0
        start = time.perf_counter()
        for number in range(offset, len(batches.kinds) * TIMED_BATCHES, len(batches.kinds)):
            batch = batches[number]
            num_tokens += int(batch["attention_mask"].sum() + batch["pair_attention_mask"].sum())
        speeds[kind] = num_tokens / (time.perf_counter() - start)
    return speeds


def data_wait(data: Path, num_workers: int, steps: int) -> float:
    """Share of update time spent waiting for batches, in a run of a small model without its first two updates."""
    with tempfile.TemporaryDirectory() as directory:
        recipe = PretrainRecipe(
            output=directory,
            engine="plain",
            steps=steps,
            log_every=steps,
            save_every=steps,
            mono_batch_pairs=2,
            bilingual_batch_pairs=8,
            mono_max_length=512,
            bilingual_max_length=128,
            loader_workers=num_workers,
        )
        train_run(recipe, PretrainingTask.on(data))
        return read_metrics(Path(directory))[-1]["data_wait"]  # lines: update 1, update 2, all others


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("runs/benchmark-loader"), help="directory for all files")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 1000], help="sizes of the shards (1 1000)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats whose median is shown (5)")
    parser.add_argument("--steps", type=int, default=12, help="updates of the run that measures waiting (12)")
    options = parser.parse_args()
    print(f"{'MB':>6} {'first batch, ms':>16} {'with a worker, s':>17} {'mono tokens/s':>14} {'bilingual':>10}")
    for megabytes in options.megabytes:
        data = make_data(options.directory / f"{megabytes}MB", megabytes)
        first, first_of_worker = (first_batch_seconds(data, workers, options.repeats) for workers in (0, 1))
        speeds = tokens_per_second(data)
        print(
            f"{megabytes:6} {1000 * first:16.1f} {first_of_worker:17.2f} {speeds['mono']:14,.0f} "
            f"{speeds['bilingual']:10,.0f}",
            flush=True,
        )
    for workers in (0, 1):
        share = data_wait(data, workers, options.steps)
        print(f"{workers} loader workers: {share:.2%} of the time of updates is waiting for data", flush=True)


if __name__ == "__main__":
    run_main(main)
