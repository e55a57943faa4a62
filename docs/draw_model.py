"""Draw docs/model.png: the two paths through one set of layers, and their use in fine-tuning."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

Point = tuple[float, float]

SELF, CROSS, FEED, EMBED, HEAD, NEW = "#dcebdc", "#f6d9d9", "#e8eef7", "#eeeeee", "#fbe9d0", "#ffffff"
EDGE, STOPPED, NOTE = "#444444", "#b03030", "#555555"
WIDTH, HEIGHT, GAP = 2.7, 0.5, 0.26
SELF_NAME, CROSS_NAME, FEED_NAME = "self-attention", "cross-attention", "feed-forward"
PLUGGED_OUT = ((SELF_NAME, SELF), (FEED_NAME, FEED))
PLUGGED_IN = ((SELF_NAME, SELF), (CROSS_NAME, CROSS), (FEED_NAME, FEED))


def draw_box(axis: Axes, x: float, y: float, text: str, colour: str, width: float = WIDTH) -> None:
    """Draw a box whose lower edge is centred at (x, y)."""
    shape = FancyBboxPatch(
        (x - width / 2, y), width, HEIGHT, boxstyle="round,pad=0.03", facecolor=colour, edgecolor=EDGE, linewidth=0.9
    )
    axis.add_patch(shape)
    axis.text(x, y + HEIGHT / 2, text, ha="center", va="center", fontsize=9)


def draw_arrow(axis: Axes, start: Point, end: Point, colour: str = EDGE, bend: str | None = None) -> None:
    arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, color=colour, shrinkA=0, shrinkB=0)
    if bend is not None:
        arrow.set_connectionstyle(bend)
    axis.add_patch(arrow)


def draw_embeddings(axis: Axes, x: float) -> None:
    draw_arrow(axis, (x, 0.0), (x, 0.32))
    draw_box(axis, x, 0.35, "embeddings", EMBED)
    draw_arrow(axis, (x, 0.88), (x, 1.15))


def draw_stack(axis: Axes, x: float, y: float, modules: tuple[tuple[str, str], ...], times: str) -> dict[str, float]:
    """Draw a layer's modules bottom-up in a repeated frame; returns the height of each centre, and "top"."""
    heights = {}
    bottom = y
    for number, (name, colour) in enumerate(modules):
        draw_box(axis, x, y, name, colour)
        heights[name] = y + HEIGHT / 2
        if number:
            draw_arrow(axis, (x, y - GAP + 0.05), (x, y - 0.03))
        y += HEIGHT + GAP
    top = y - GAP + 0.16
    frame = Rectangle(
        (x - WIDTH / 2 - 0.18, bottom - 0.16),
        WIDTH + 0.36,
        top - bottom + 0.16,
        fill=False,
        linestyle=(0, (4, 3)),
        linewidth=0.9,
        edgecolor="#888888",
    )
    axis.add_patch(frame)
    axis.text(x + WIDTH / 2 + 0.26, bottom, times, fontsize=10, color=NOTE, va="bottom")
    return {**heights, "top": top, "bottom": bottom - 0.16}


def draw_path(
    axis: Axes, x: float, modules: tuple[tuple[str, str], ...], ids: str, state: str, losses: str
) -> dict[str, float]:
    """Draw a path from ids to losses; returns heights as `draw_stack` does, and "state", that of the last states."""
    axis.text(x, -0.05, ids, ha="center", va="top", fontsize=11)
    draw_embeddings(axis, x)
    heights = draw_stack(axis, x, 1.32, modules, r"$\times\, L$")
    state_height = heights["top"] + 0.52
    draw_arrow(axis, (x, heights["top"]), (x, state_height - 0.27))
    axis.text(x, state_height, state, ha="center", va="center", fontsize=12)
    head = 5.0
    draw_arrow(axis, (x, state_height + 0.25), (x, head - 0.03))
    draw_box(axis, x, head, r"head $f$", HEAD)
    draw_arrow(axis, (x, head + HEIGHT + 0.03), (x, head + HEIGHT + 0.3))
    axis.text(x, head + HEIGHT + 0.36, losses, ha="center", va="bottom", fontsize=10.5, linespacing=1.5)
    return {**heights, "state": state_height}


def draw_pretraining(axis: Axes) -> None:
    left, right = 1.9, 8.3
    h = draw_path(
        axis,
        left,
        PLUGGED_OUT,
        r"$\hat{x}$,  $\hat{y}$,  and for TLM  $\hat{x}\,;\hat{y}$",
        r"$H^L_x,\ H^L_y,\ H^L_{x;y}$",
        "MLM: $P(x|\\hat{x}),\\ P(y|\\hat{y})$\nTLM: $P(x, y|\\hat{x};\\hat{y})$",
    )
    s = draw_path(
        axis,
        right,
        PLUGGED_IN,
        r"$\hat{x}$,  $\hat{y}$",
        r"$S^L_x,\ S^L_y$",
        "CA-MLM:\n$P(x|\\hat{y},\\hat{x}),\\ P(y|\\hat{x},\\hat{y})$",
    )
    for x, title in ((left, "path H: plugged out"), (right, "path S: plugged in")):
        axis.text(x, 7.05, title, ha="center", fontsize=12.5, weight="bold")
    corner = right - WIDTH / 2 - 0.75
    axis.plot([left + 1.1, corner, corner], [h["state"], h["state"], s[CROSS_NAME]], color=STOPPED, linewidth=1.4)
    draw_arrow(axis, (corner, s[CROSS_NAME]), (right - WIDTH / 2 - 0.05, s[CROSS_NAME]), STOPPED)
    between = (left + WIDTH / 2 + corner) / 2 + 0.15
    axis.text(between, h["state"] + 0.1, "stop-gradient", ha="center", va="bottom", fontsize=10, color=STOPPED)
    note = "keys and values:\n$H^L$ of the other\nsequence, one for\nevery layer"
    axis.text(
        corner - 0.12, h["state"] - 0.15, note, ha="right", va="top", fontsize=8.5, color=STOPPED, linespacing=1.4
    )
    axis.text((left + right) / 2, 0.63, "the same embedded tokens", ha="center", va="bottom", fontsize=8.5, color=NOTE)
    ends = [left + WIDTH / 2 + 0.1, right - WIDTH / 2 - 0.1]
    axis.plot(ends, [0.6, 0.6], color="#999999", linestyle=":", linewidth=1)
    axis.set_title("pre-training: one set of weights, two sweeps", fontsize=13, pad=12)
    axis.set_xlim(-0.2, 10.4)


def draw_understanding(axis: Axes) -> None:
    left, right = 1.5, 5.6
    for x, modules, title, features in (
        (left, PLUGGED_OUT, "plug-out", r"$H^L_x$"),
        (right, PLUGGED_IN, "plug-in", r"$[H^L_x\,;\,S^L_x]$"),
    ):
        axis.text(x, -0.05, "$x$" if modules is PLUGGED_OUT else "$x$,  $y$", ha="center", va="top", fontsize=11)
        draw_embeddings(axis, x)
        heights = draw_stack(axis, x, 1.32, modules, "")
        state = heights["top"] + 0.52
        draw_arrow(axis, (x, heights["top"]), (x, state - 0.27))
        if CROSS_NAME in heights:
            start = x - WIDTH / 2 - 0.55
            draw_arrow(axis, (start, heights[CROSS_NAME]), (x - WIDTH / 2 - 0.05, heights[CROSS_NAME]))
            axis.text(start - 0.08, heights[CROSS_NAME], "$H^L_y$", ha="right", va="center", fontsize=12)
        axis.text(x, state, features, ha="center", va="center", fontsize=12)
        draw_arrow(axis, (x, state + 0.25), (x, 4.97))
        draw_box(axis, x, 5.0, "class, tags or span", NEW)
        draw_arrow(axis, (x, 5.53), (x, 5.8))
        axis.text(x, 5.86, "label of $x$", ha="center", va="bottom", fontsize=10.5)
        axis.text(x, 7.05, title, ha="center", fontsize=12.5, weight="bold")
    axis.set_title("understanding", fontsize=13, pad=12)
    axis.set_xlim(-0.4, 7.4)


def draw_generation(axis: Axes) -> None:
    left, right = 1.5, 6.0
    axis.text(left, -0.05, "source", ha="center", va="top", fontsize=11)
    axis.text(right, -0.05, "tag, target so far", ha="center", va="top", fontsize=11)
    for x in (left, right):
        draw_embeddings(axis, x)
    encoder = draw_stack(axis, left, 1.32, PLUGGED_OUT, r"$\times\, L$")
    causal = (("causal self-attention", SELF), (CROSS_NAME, CROSS), (FEED_NAME, FEED))
    decoder = draw_stack(axis, right, 1.32, causal, r"$\times\, n$")
    start = (left, encoder["top"])
    height = encoder["top"] + 0.4
    middle = right - WIDTH / 2 - 0.55
    axis.plot([start[0], start[0], middle, middle], [start[1], height, height, decoder[CROSS_NAME]], color=EDGE, lw=1.2)
    draw_arrow(axis, (middle, decoder[CROSS_NAME]), (right - WIDTH / 2 - 0.05, decoder[CROSS_NAME]))
    axis.text(left, height + 0.08, "projected once a sentence", ha="center", va="bottom", fontsize=8.5, color=NOTE)
    draw_arrow(axis, (right, decoder["top"]), (right, 4.97))
    draw_box(axis, right, 5.0, "head $f$", HEAD)
    draw_arrow(axis, (right, 5.53), (right, 5.8))
    axis.text(right, 5.86, "next token", ha="center", va="bottom", fontsize=10.5)
    axis.text(left, 7.05, "encoder: path H", ha="center", fontsize=12.5, weight="bold")
    axis.text(right, 7.05, "decoder: last $n$ layers", ha="center", fontsize=12.5, weight="bold")
    axis.text(
        left,
        5.0,
        "every weight comes from\npre-training; tied: embeddings\nand head, self-attention\nby choice",
        ha="center",
        va="bottom",
        fontsize=8.5,
        color=NOTE,
        linespacing=1.4,
    )
    axis.set_title("generation", fontsize=13, pad=12)
    axis.set_xlim(-0.2, 8.0)


def main() -> None:
    widths = (10.6, 7.8, 8.2)
    figure, axes = pyplot.subplots(1, 3, figsize=(17.5, 5.9), gridspec_kw={"width_ratios": widths, "wspace": 0.02})
    for axis, draw in zip(axes, (draw_pretraining, draw_understanding, draw_generation), strict=True):
        draw(axis)
        axis.set_ylim(-0.6, 7.5)
        axis.set_aspect("equal", anchor="S")
        axis.axis("off")
    note = (
        r"Boxes of one colour start from one set of weights: $\theta_s$ (embeddings, self-attention, feed-forward) and "
        r"$\theta_c$ (cross-attention); white ones are new. "
        "Dropout, a residual and LayerNorm follow each module."
    )
    figure.text(0.5, 0.06, note, ha="center", fontsize=10.5, color=NOTE)
    path = Path(__file__).resolve().parent / "model.png"
    figure.savefig(path, dpi=110, bbox_inches="tight")
    print(path)


if __name__ == "__main__":
    main()
