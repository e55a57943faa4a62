"""Draw docs/flow.png: the pipeline from raw text to scores, with the command of each stage. `make figures` runs it."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

WIDTH, HEIGHT = 2.5, 1.0
STAGES = {
    "text": (0.0, 2.0, "raw text", "any languages, any pairs", "#e8eef7"),
    "shards": (3.6, 2.0, "token shards", "memory-mapped .bin + .idx", "#dcebdc"),
    "run": (7.2, 2.0, "pre-training run", "CA-MLM + TLM under ZeRO-3", "#fbe9d0"),
    "model": (10.8, 2.0, "VECO", "safetensors + tokenizer", "#f6d9d9"),
    "mt": (10.8, 0.0, "translation model", "encoder + last n layers", "#f6d9d9"),
    "bleu": (7.2, 0.0, "BLEU, chrF", "with signatures", "#e6e0f0"),
}
ARROWS = [
    ("text", "shards", "data_tools\n.train_tokenizer\n.prepare"),
    ("shards", "run", "deepspeed\npretrain/\ntrain.py"),
    ("run", "model", "pretrain\n.export"),
    ("model", "mt", "deepspeed finetune/mt/train.py\nfinetune.mt.average"),
    ("mt", "bleu", "finetune.mt\n.generate\n.score"),
]


def draw_stage(axis: Axes, x: float, y: float, title: str, note: str, colour: str) -> None:
    box = FancyBboxPatch((x, y), WIDTH, HEIGHT, boxstyle="round,pad=0.06", facecolor=colour, edgecolor="#444444")
    axis.add_patch(box)
    axis.text(x + WIDTH / 2, y + 0.62 * HEIGHT, title, ha="center", va="center", fontsize=12, weight="bold")
    axis.text(x + WIDTH / 2, y + 0.25 * HEIGHT, note, ha="center", va="center", fontsize=8.5)


def draw_arrow(axis: Axes, start: str, end: str, label: str) -> None:
    x0, y0 = STAGES[start][:2]
    x1, y1 = STAGES[end][:2]
    if x0 == x1:
        points = (x0 + WIDTH / 2, y0 - 0.08), (x1 + WIDTH / 2, y1 + HEIGHT + 0.08)
        place, align = (x0 + WIDTH / 2 - 0.15, (y0 + y1 + HEIGHT) / 2), "right"
    else:
        right = x1 > x0
        points = (
            (x0 + (WIDTH + 0.08 if right else -0.08), y0 + HEIGHT / 2),
            (x1 + (-0.08 if right else WIDTH + 0.08), y1 + HEIGHT / 2),
        )
        # The label of the arrow from above takes the space above this one, left of the lower row.
        place, align = ((points[0][0] + points[1][0]) / 2, y0 + HEIGHT + 0.12 if right else y0 - 0.12), "center"
    axis.add_patch(FancyArrowPatch(*points, arrowstyle="-|>", mutation_scale=14, color="#444444"))
    vertical = "center" if x0 == x1 else "bottom" if x1 > x0 else "top"
    axis.text(*place, label, ha=align, va=vertical, fontsize=8, family="monospace", color="#333333")


def main() -> None:
    figure, axis = pyplot.subplots(figsize=(13.6, 4.2))
    for stage in STAGES.values():
        draw_stage(axis, *stage)
    for arrow in ARROWS:
        draw_arrow(axis, *arrow)
    axis.set_xlim(-0.3, 13.6)
    axis.set_ylim(-0.9, 4.0)
    axis.set_aspect("equal")
    axis.axis("off")
    path = Path(__file__).resolve().parent / "flow.png"
    figure.savefig(path, dpi=110, bbox_inches="tight")
    print(path)


if __name__ == "__main__":
    main()
