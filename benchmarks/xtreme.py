"""XTREME's retrieval at size, the speed of fine-tuning, and a data directory with a test for MLQA from its dev.

    python benchmarks/xtreme.py retrieval [--rows 100000] [--width 768] [--similarity margin]
    python benchmarks/xtreme.py finetune [--quick]
    python benchmarks/xtreme.py data SOURCE ROOT

`retrieval` mines random sentences and their noisy translations, and tells seconds and the process's largest memory.
`finetune` compares our loop with transformers' Trainer: see xtreme_finetuning.py.
`data` links SOURCE into ROOT, and cuts the dev set of MLQA by article into a dev and a test.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from xtreme_finetuning import QUICK, Sizes, measure_finetuning

from data_tools.cli import run_main
from data_tools.text_lines import open_text
from finetune.xtreme.readers.files import find_file
from finetune.xtreme.retrieval import Similarity, mine, prepare
from finetune.xtreme.tasks import ENGLISH, TASKS, Split

NOISE = 5  # of a translation, beside 1 for what both sides share
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
    """Nothing; prints seconds of each part and the largest memory so far."""
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
    """Nothing; prints a line with the largest resident memory of this process until now."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{what:<28} {seconds:8.1f} s   at most {peak / GIB:.2f} GiB", flush=True)


def make_data(source: Path, root: Path) -> None:
    """Nothing; `root` links to what is in `source`, and has a dev and a test of MLQA from the dev of `source`.

    Questions have their ids in common with English, and an article goes where the English one of its questions goes,
    so no article is in dev in one language and in test in another.
    """
    root.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.name != "mlqa":
            (root / entry.name).symlink_to(entry.resolve())
    task = TASKS["mlqa"]
    articles = {language: articles_of(find_file(task, Split.DEV, language, source)) for language in task.languages}
    english_titles = {id: article["title"] for article in articles[ENGLISH] for id in ids_of(article)}
    for language in task.languages:
        for split in (Split.DEV, Split.TEST):
            kept = [
                article
                for article in articles[language]
                if is_test(english_titles[ids_of(article)[0]]) == (split is Split.TEST)
            ]
            path = root / f"{task.files[split][0].format(language=language)}.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(json.dumps({"data": kept}, ensure_ascii=False).encode(), mtime=0))
            print(f"{path}: {sum(len(ids_of(article)) for article in kept)} questions")


def articles_of(path: Path) -> list[dict[str, Any]]:
    with open_text(path) as lines:
        return json.loads("\n".join(lines))["data"]


def ids_of(article: dict[str, Any]) -> list[str]:
    return [question["id"] for paragraph in article["paragraphs"] for question in paragraph["qas"]]


def is_test(title: str) -> bool:
    """Half of the articles."""
    return zlib.crc32(title.encode()) % 2 == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    retrieval = commands.add_parser("retrieval", help="seconds and memory of mining")
    retrieval.add_argument("--rows", type=int, default=100_000, help="sentences a side (default %(default)s)")
    retrieval.add_argument("--width", type=int, default=768, help="of the embeddings (default %(default)s)")
    retrieval.add_argument("--similarity", type=Similarity, choices=list(Similarity), default=Similarity.MARGIN)
    finetune = commands.add_parser("finetune", help="rows a second of our loop and of transformers' Trainer")
    finetune.add_argument("--quick", action="store_true", help="tiny shapes, once: does it run?")
    data = commands.add_parser("data", help="a data directory with a test for MLQA")
    data.add_argument("source", type=Path)
    data.add_argument("root", type=Path)
    options = parser.parse_args()
    if options.command == "retrieval":
        measure_retrieval(options.rows, options.width, options.similarity)
    elif options.command == "finetune":
        measure_finetuning(QUICK if options.quick else Sizes())
    else:
        make_data(options.source, options.root)


if __name__ == "__main__":
    run_main(main)
