"""Measure XTREME's retrieval on many sentences, and the speed of fine-tuning.

    python benchmarks/xtreme.py retrieval [--rows 100000] [--width 768] [--similarity margin]
    python benchmarks/xtreme.py finetune [--quick]

`retrieval` mines random sentences and their noisy translations, and prints seconds and the process's peak memory.
`finetune` compares our loop with transformers' Trainer: see xtreme_finetuning.py.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import torch
from xtreme_finetuning import QUICK, Sizes, measure_finetuning

from data_tools.cli import FlagParser, run_main
from finetune.understanding.retrieval.matching import Similarity, mine, prepare

NOISE = 5  # of a translation, relative to the part that both sides share
GIB = 1 << 30


def embeddings(rows: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Sentences and their noisy translations in the same order, float32 (rows, width)."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, width), dtype=np.float32)
    y = rng.standard_normal((rows, width), dtype=np.float32)
    y *= NOISE
    y += x
    return x, y


def measure_retrieval(rows: int, width: int, similarity: Similarity) -> None:
    """Print seconds of each part and the peak memory so far."""
    x, y = embeddings(rows, width)
    print(f"{rows:,} x {rows:,} sentences of width {width}, {similarity}, {torch.get_num_threads()} threads")
    report("embeddings made", 0)
    start = time.perf_counter()
    x, y = prepare(x, y)
    report("prepared", time.perf_counter() - start)
    start = time.perf_counter()
    pairs = mine(x, y, similarity)
    report(f"mined, {np.mean(pairs.source == pairs.target):.4f} right", time.perf_counter() - start)


def report(what: str, seconds: float) -> None:
    """Print a line with the peak resident memory of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{what:<28} {seconds:8.1f} s   at most {peak / GIB:.2f} GiB", flush=True)


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    retrieval = commands.add_parser("retrieval", help="seconds and memory of mining")
    retrieval.add_argument("--rows", type=int, default=100_000, help="sentences per side (default %(default)s)")
    retrieval.add_argument("--width", type=int, default=768, help="width of the embeddings (default %(default)s)")
    retrieval.add_argument("--similarity", type=Similarity, choices=list(Similarity), default=Similarity.MARGIN)
    finetune = commands.add_parser("finetune", help="rows per second of our loop and of transformers' Trainer")
    finetune.add_argument("--quick", action="store_true", help="tiny shapes, once, to check that it runs")
    options = parser.parse_args()
    if options.command == "retrieval":
        measure_retrieval(options.rows, options.width, options.similarity)
    else:
        measure_finetuning(QUICK if options.quick else Sizes())


if __name__ == "__main__":
    run_main(main)
