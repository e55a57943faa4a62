"""The whole way on the embedded corpus, by the commands that a user types: `make demo`.

Text -> tokenizer -> shards -> ZeRO-3 pre-training -> export -> translation fine-tuned from VECO and from random weights
with the same budget -> BLEU. Prints one table and draws the learning curves. A step whose result is there is not done
again, so a second call is quick; `--fresh` starts over, and keeps the earlier demo under another name.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from data_tools.cli import FlagParser, run_main
from data_tools.directories import claim, read_record
from data_tools.files import atomic_path
from data_tools.manifest import Manifest
from finetune.stages import Stage, run_stage
from pretrain.meters import read_metrics
from pretrain.train import TINY

RECIPE = Path(__file__).resolve().parent / "mt" / "recipes" / "demo_en_de.yaml"
VOCABULARY_SIZE = "2000"
# Two of the four languages: minutes suffice to learn to look at the other sentence of one pair, not of six.
CORPUS = ("data_tools.toy_corpus", "--languages", "de", "en", "--documents", "1500", "--pairs", "8000")
INITS = ("pretrained", "random")
COMMAND = "finetune.demo"
RESULTS = ("text", "data", "pretrain", "model", *(f"mt-{init}" for init in INITS), "learning_curves.png")


def stages(root: Path, processes: int) -> list[Stage]:
    """All commands in order."""
    text, tokenizer, data = root / "text", root / "text" / "tokenizer", root / "data"
    run, model = root / "pretrain", root / "model"
    mono = [str(text / "mono" / f"{language}.txt") for language in ("de", "en")]
    found = [
        Stage(
            "write the embedded corpus",
            (*CORPUS, "--output", f"{text}"),
            text / "corpus.yaml",
        ),
        Stage(
            "train the tokenizer",
            (
                "data_tools.train_tokenizer",
                "--input",
                *mono,
                "--vocab-size",
                VOCABULARY_SIZE,
                "--output",
                f"{tokenizer}",
            ),
            tokenizer,
        ),
        Stage(
            "prepare shards",
            ("data_tools.prepare", f"{text / 'corpus.yaml'}", "--output", f"{data}"),
            data / "manifest.json",
        ),
        Stage(
            f"pre-train VECO, ZeRO-3 on {processes} processes",
            ("pretrain/train.py", "--config", f"{TINY}", "--data", f"{data}", "--output", f"{run}", "--resume"),
            run / "curves.png",
            is_distributed=True,
        ),
        Stage("export", ("pretrain.export", f"{run}", "--output", f"{model}"), model / "model.safetensors"),
    ]
    for init in INITS:
        found += translation_stages(root, text / "mt", model, init)
    return found


def translation_stages(root: Path, text: Path, model: Path, init: str) -> list[Stage]:
    """Fine-tune, average, translate and score with one initialisation."""
    run = root / f"mt-{init}"
    files = {
        f"--{part}_{side}": f"{text / part}.{lang}"
        for part in ("train", "valid")
        for side, lang in (("source", "en"), ("target", "de"))
    }
    options = [word for pair in files.items() for word in pair]
    averaged, output, score = run / "averaged", run / "test.de", run / "score.json"
    train = ("finetune/mt/train.py", "--config", f"{RECIPE}", "--init_from", f"{model}", "--init", init)
    return [
        Stage(
            f"fine-tune English -> German from {init} weights",
            (*train, *options, "--output", f"{run}", "--resume"),
            run / "curves.png",
            is_distributed=True,
        ),
        Stage("average", ("finetune.mt.average", f"{run}", "--last", "2", "--output", f"{averaged}"), averaged),
        Stage(
            "translate",
            (
                "finetune.mt.generate",
                f"{averaged}",
                "--input",
                f"{text / 'test.en'}",
                "--output",
                f"{output}",
                "--quiet",
            ),
            output,
        ),
        Stage(
            "score",
            (
                "finetune.mt.score",
                "--system",
                f"{output}",
                "--reference",
                f"{text / 'test.de'}",
                "--target-language",
                "de",
                "--json",
                f"{score}",
            ),
            score,
        ),
    ]


def first_and_last(run: Path, name: str) -> tuple[float, float]:
    """First value of a metric, and the mean of its last five."""
    values = [line[name] for line in read_metrics(run) if name in line]
    last = values[-5:]
    return values[0], sum(last) / len(last)


def median_speed(run: Path) -> float:
    """Median tokens per second over the updates that were logged."""
    speeds = sorted(line["tokens_per_second"] for line in read_metrics(run) if "tokens_per_second" in line)
    return speeds[len(speeds) // 2]


def table_rows(root: Path) -> list[tuple[str, str]]:
    """What the demo did, as (what, value)."""
    manifest = Manifest.load(root / "data")
    shards = [info for infos in manifest.mono.values() for info in infos]
    sides = [info for pairs in manifest.parallel.values() for pair in pairs for info in pair.values()]
    num_pairs = sum(next(iter(pair.values())).num_sequences for pairs in manifest.parallel.values() for pair in pairs)
    documents, sentences = sum(info.num_documents for info in shards), sum(info.num_sequences for info in shards)
    rows = [
        ("corpus, monolingual", f"{len(manifest.mono)} languages, {documents:,} documents, {sentences:,} sentences"),
        ("corpus, parallel", f"{', '.join(manifest.parallel)}: {num_pairs:,} sentence pairs"),
        ("tokens", f"{sum(info.num_tokens for info in [*shards, *sides]):,}; vocabulary {manifest.vocab_size:,}"),
    ]
    for name in ("mono/mlm", "mono/ca_mlm", "bilingual/mlm", "bilingual/ca_mlm", "bilingual/tlm"):
        first, last = first_and_last(root / "pretrain", name)
        rows.append((f"pre-training loss {name}, start -> end", f"{first:.2f} -> {last:.2f}"))
    rows.append(("pre-training speed", f"{median_speed(root / 'pretrain'):,.0f} tokens/s"))
    for init in INITS:
        run = root / f"mt-{init}"
        first, last = first_and_last(run, "train/smoothed")
        rows.append((f"translation loss from {init}, start -> end", f"{first:.2f} -> {last:.2f}"))
    return rows


def scores(root: Path, init: str) -> dict[str, dict[str, Any]]:
    """Score by name that finetune.mt.score wrote for one initialisation."""
    return json.loads((root / f"mt-{init}" / "score.json").read_text(encoding="utf-8"))["scores"]


def draw(root: Path) -> Path:
    """`root`/learning_curves.png: pre-training losses, and validation perplexity from both initialisations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4))
    lines = read_metrics(root / "pretrain")
    for name in ("mono/mlm", "mono/ca_mlm", "bilingual/mlm", "bilingual/ca_mlm", "bilingual/tlm"):
        points = [(line["step"], line[name]) for line in lines if name in line]
        left.plot(*zip(*points, strict=True), label=name)
    left.set(title="pre-training", xlabel="update", ylabel="loss, nats (mlm, ca_mlm: x + y)")
    for init in INITS:
        points = [
            (line["step"], line["valid/nll"]) for line in read_metrics(root / f"mt-{init}") if "valid/nll" in line
        ]
        right.plot(*zip(*points, strict=True), marker="o", label=f"{init} weights")
    right.set(title="English -> German, validation", xlabel="update", ylabel="nats a target token")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    path = root / "learning_curves.png"
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    pyplot.close(figure)
    return path


def print_table(root: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="VECO demo", show_header=False)
    for what, value in table_rows(root):
        table.add_row(what, value)
    for init in INITS:
        for name, score in scores(root, init).items():
            table.add_row(f"{name} from {init} weights", f"{score['value']:.1f}   {score['signature']}")
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def move_aside(output: Path) -> Path:
    """Where an earlier demo is now. Raises ValueError for a directory that no demo has made."""
    if not read_record(output, COMMAND):
        raise ValueError(f"{output}: is no directory of the demo; choose another --output")
    number = 1
    while os.path.lexists(aside := output.with_name(f"{output.name}.{number}")):
        number += 1
    return output.rename(aside)


def main() -> None:
    parser = FlagParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="directory for everything (runs/demo)")
    parser.add_argument("--processes", type=int, default=2, help="processes of the training stages (2)")
    parser.add_argument("--fresh", action="store_true", help="move an earlier demo to OUTPUT.1 (.2, …) and start over")
    arguments = parser.parse_args()
    if arguments.fresh and arguments.output.exists():
        print(f"the earlier demo is in {move_aside(arguments.output)} now")
    claim(arguments.output, RESULTS, COMMAND)
    start = time.perf_counter()
    for stage in stages(arguments.output, arguments.processes):
        run_stage(stage, arguments.processes)
    print()
    print_table(arguments.output)
    print(f"learning curves: {draw(arguments.output)}")
    print(f"{(time.perf_counter() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    run_main(main)
