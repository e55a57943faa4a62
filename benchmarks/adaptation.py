"""Speed of ways to adapt: an epoch of fine-tuning on SIB-200 with everything, with LoRA, adapters, and the head alone.

    python benchmarks/adaptation.py DATA             a random VECO, 6 layers x 256 (minutes)
    python benchmarks/adaptation.py DATA --quick     a tiny one, to check that it runs (seconds)

DATA has the set as `topics/sib200` reads it. Each epoch is complete: all updates on the English train, then validation
on dev of the given languages; only checkpoints are left out. The epochs of all ways alternate in one process; figures
are medians of the repeats, in CPU seconds of the process. The head alone also takes the pass through the encoder, once
before its first epoch. A ratio is the time of everything / that of the way: above 1, the way is faster.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from data_tools.cli import FlagParser, run_main
from finetune.understanding.readers.examples_of_task import read_texts
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.task import Split
from finetune.understanding.understanding_task import UnderstandingTask
from training.engine.plain_engine import PlainEngine
from training.engine.processes import ConnectedRanks
from training.guards import Guards
from training.launch import quiet_libraries
from training.loop import Hooks, fit
from training.meters import Meters
from training.recipe.ds_config import read_ds_config
from veco import VecoConfig, VecoForMaskedLM

TASK = "topics/sib200"
PIECES = 2000  # of the tokenizer
WAYS: Mapping[str, Mapping[str, Any]] = {
    "everything": {},
    "LoRA, rank 8": {"lora_rank": 8},
    "adapters": {"adapter": "pfeiffer"},
    "lowest half frozen": {"freeze_layers": 3},
    "head alone": {"freeze": "encoder"},
}
SHAPE = {"num_hidden_layers": 6, "hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4}
TINY_SHAPE = {"num_hidden_layers": 3, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}


def write_model(directory: Path, data: str, languages: list[str], shape: Mapping[str, int]) -> None:
    """A random VECO and a tokenizer of the texts in the set's files."""
    text = directory.with_suffix(".txt")
    task = task_named(TASK)
    files = [(Split.TRAIN, "en"), *((Split.DEV, language) for language in languages)]
    lines = [example.text_a for split, language in files for example in read_texts(task, split, language, data)]
    text.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = ["--input", str(text), "--vocab-size", str(PIECES), "--output", str(directory)]
    subprocess.run([sys.executable, "-m", "data_tools.train_tokenizer", *command], check=True, capture_output=True)
    VecoForMaskedLM(VecoConfig(vocab_size=PIECES, max_position_embeddings=130, **shape)).save_pretrained(directory)


def epochs_of(recipe: UnderstandingRecipe) -> tuple[Callable[[], float], float]:
    """(a function that trains another epoch and gives its CPU seconds, those that were needed before the first)."""
    task = UnderstandingTask(recipe)
    recipe = task.resolved(recipe)
    started = time.process_time()
    task.prepare(ConnectedRanks(0, 1, torch.device("cpu")))
    before = time.process_time() - started
    engine = PlainEngine(task.model, recipe, lambda step: 1.0, read_ds_config(recipe.ds_config))
    updates = recipe.save_every  # of an epoch
    done = 0

    def run() -> float:
        nonlocal done
        started = time.process_time()
        fit(
            engine,
            recipe,
            task,
            range(done, done + updates),
            hooks=Hooks(save=lambda step: None, validate=partial(task.validate, engine)),
            meters=Meters(Path(recipe.output), 10**9, done, 10**9, enabled=False),
            guards=Guards(recipe),
        )
        done += updates
        return time.process_time() - started

    return run, before


def parse_arguments() -> argparse.Namespace:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="directory of SIB-200")
    parser.add_argument("--languages", default="en,de,sw", help="of dev (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each way (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="tiny model, one epoch")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    languages = options.languages.split(",")
    with tempfile.TemporaryDirectory() as name:
        model = Path(name) / "model"
        write_model(model, options.data, languages, TINY_SHAPE if options.quick else SHAPE)
        root = only(Path(options.data), languages, Path(name) / "data")
        fields: dict[str, Any] = {"task": TASK, "data": str(root), "init_from": str(model), "output": f"{name}/run"}
        fixed: dict[str, Any] = {"engine": "plain", "ds_config": "zero3_fp32.json", "loader_workers": 0, "epochs": 1}
        runs = {way: epochs_of(UnderstandingRecipe(**fields, **fixed, **own)) for way, own in WAYS.items()}
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for turn in range(1 if options.quick else options.repeats + 1):
            for way, (run, _) in runs.items():
                taken = run()
                if turn or options.quick:  # the first epoch warms up
                    times[way].append(taken)
    everything = statistics.median(times["everything"])
    print("| way | CPU s an epoch | everything / this | CPU s once before |\n|---|---|---|---|")
    for way, (_, before) in runs.items():
        taken = statistics.median(times[way])
        print(f"| {way} | {taken:.3f} | {everything / taken:.1f} | {before:.2f} |")


def only(data: Path, languages: list[str], directory: Path) -> Path:
    """A directory with links to the files of some languages."""
    directory.mkdir()
    for place in (data, data / "sib200"):
        for path in place.glob("*.tsv*"):
            if path.name.partition(".")[0].rpartition("-")[2] in languages:
                (directory / path.name).symlink_to(path.resolve())
    return directory


if __name__ == "__main__":
    run_main(main)
