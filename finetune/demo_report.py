"""The demo's report: one table, five translations, learning curves, and the next commands to type."""

from __future__ import annotations

import json
import shlex
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from data_tools.shards.manifest import Manifest
from training.figures import pyplot, save
from training.meters import read_metrics

INITS = ("pretrained", "random")
PRETRAINING_LOSSES = ("mono/mlm", "mono/ca_mlm", "bilingual/mlm", "bilingual/ca_mlm", "bilingual/tlm")
NUM_SHOWN = 5


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
    """Rows (quantity, value) on the corpus and the losses."""
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
    for name in PRETRAINING_LOSSES:
        first, last = first_and_last(root / "pretrain", name)
        rows.append((f"pre-training loss {name}, start -> end", f"{first:.2f} -> {last:.2f}"))
    rows.append(("pre-training speed", f"{median_speed(root / 'pretrain'):,.0f} tokens/s"))
    for init in INITS:
        run = root / f"mt-{init}"
        first, last = first_and_last(run, "train/smoothed")
        rows.append((f"translation loss from {init}, start -> end", f"{first:.2f} -> {last:.2f}"))
    return rows


def scores(root: Path, init: str) -> dict[str, dict[str, Any]]:
    """Scores by name, as finetune.mt.score wrote them for one initialisation."""
    return json.loads((root / f"mt-{init}" / "score.json").read_text(encoding="utf-8"))["scores"]


def draw_curves(root: Path) -> Path:
    """Draw `root`/learning_curves.png, pre-training losses and validation losses of both, and return its path."""
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(11, 4))
    lines = read_metrics(root / "pretrain")
    for name in PRETRAINING_LOSSES:
        points = [(line["step"], line[name]) for line in lines if name in line]
        left.plot(*zip(*points, strict=True), label=name)
    left.set(title="pre-training", xlabel="update", ylabel="loss, nats (mlm, ca_mlm: x + y)")
    for init in INITS:
        right.plot(*zip(*validations(root, init), strict=True), marker="o", label=f"{init} weights")
    right.set(title="English -> German, validation", xlabel="update", ylabel="nats a target token")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.tight_layout()
    path = root / "learning_curves.png"
    save(figure, [path], dpi=120)
    return path


def validations(root: Path, init: str) -> list[tuple[int, float]]:
    """(update, nats a target token) of the validations of one fine-tuning."""
    return [(int(line["step"]), line["valid/nll"]) for line in read_metrics(root / f"mt-{init}") if "valid/nll" in line]


def first_translations(root: Path, count: int) -> list[dict[str, str]]:
    """The first `count` sentences of the test text: English, the reference, and both models' translations."""
    text = root / "text" / "mt"
    files = {"English": text / "test.en", "reference": text / "test.de"}
    files |= {f"from {init} weights": root / f"mt-{init}" / "test.de" for init in INITS}
    lines = {name: path.read_text(encoding="utf-8").splitlines() for name, path in files.items()}
    return [dict(zip(lines, row, strict=True)) for row in islice(zip(*lines.values(), strict=True), count)]


def print_report(root: Path) -> None:
    """Print the table, the validation losses, translations and the next commands; draw the curves."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    table = Table(title="VECO demo", show_header=False)
    for quantity, value in table_rows(root):
        table.add_row(quantity, value)
    for init in INITS:
        for name, score in scores(root, init).items():
            table.add_row(f"{name} from {init} weights", f"{score['value']:.1f}   {score['signature']}")
    console.print(table)

    curves = Table(title="validation while fine-tuning, nats a target token")
    points = {init: dict(validations(root, init)) for init in INITS}
    steps = sorted(set().union(*points.values()))
    for heading in ("update", *map(str, steps)):
        curves.add_column(heading, justify="right")
    for init in INITS:
        curves.add_row(f"from {init} weights", *(f"{points[init].get(step, float('nan')):.2f}" for step in steps))
    console.print(curves)

    translations = Table(title=f"the first {NUM_SHOWN} test sentences, never seen in training", show_header=False)
    for translation in first_translations(root, NUM_SHOWN):
        for name, sentence in translation.items():
            translations.add_row(name, sentence)
        translations.add_section()
    console.print(translations)

    print(f"learning curves: {draw_curves(root)}")
    python, model = shlex.quote(sys.executable), shlex.quote(f"{root / 'mt-pretrained' / 'averaged'}")
    print(f'next: echo "The teachers read a good book." | {python} -m finetune.mt.generate {model}')
    print('then your own text: README.md, "Your own text"')
