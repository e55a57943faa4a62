"""The figures of a study: the table with coloured cells, learning curves of pre-training, probes by layer."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.study.cells import Kind
from finetune.study.costs import pretraining_run
from finetune.study.plan import StudyPlan
from finetune.study.results import Cell, score_of
from finetune.study.tables import NAMES
from training.figures import COLOURS, LINES, MARKERS, files_of, pyplot, save
from training.meters import read_metrics

# Dark enough apart for a black and white print, and blue, yellow and white for colour-blind readers.
KIND_COLOURS = {Kind.OWN: "#7fb3d8", Kind.FOREIGN: "#fbe7a1", Kind.CONTROL: "#ffffff", Kind.UNKNOWN: "#e6e6e6"}
KINDS = ("mono", "bilingual")  # of batches
PANELS_A_ROW = 4
PARTS = {"training": "train", "held out": "valid"}  # what curves are called -> what metrics.jsonl calls it


def draw_table(cells: Sequence[Cell], plan: StudyPlan, stem: Path) -> None:
    """Draw the table: the mean of each cell, its sd below; colours say own language, foreign language, control."""
    rows, columns = plan.study.rows, plan.columns
    figure, axis = pyplot().subplots(figsize=(1.6 + 0.78 * len(columns), 1.1 + 0.42 * len(rows)))
    axis.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    places = {column.name: place for place, column in enumerate(columns)}
    for row in range(len(rows)):
        for place in places.values():
            axis.add_patch(patch(None, (place, row)))
    for cell in cells:
        draw_cell(axis, cell, places[cell.column], rows.index(cell.model))
    names = [f"{column.name}\n{score_of(column)}" for column in columns]
    axis.set_xticks([place + 0.5 for place in range(len(columns))], names, fontsize=7, rotation=35, ha="left")
    axis.set_yticks([place + 0.5 for place in range(len(rows))], rows, fontsize=8)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    present = [kind for kind in NAMES if any(cell.kind == kind for cell in cells)]
    handles = [patch(kind) for kind in present]
    if handles:
        labels = [NAMES[kind] for kind in present]
        axis.legend(handles, labels, loc="upper left", bbox_to_anchor=(0, -0.02), ncol=3, fontsize=7, frameon=False)
    save(figure, files_of(stem), dpi=160, margins="tight")


def patch(kind: Kind | None, place: tuple[float, float] = (0, 0)) -> Any:
    """The background of a cell of this kind; None is an unfinished one, which is only framed."""
    from matplotlib.patches import Rectangle

    colour = KIND_COLOURS[kind] if kind is not None else "none"
    hatch = "////" if kind is Kind.CONTROL else None
    return Rectangle(place, 1, 1, facecolor=colour, edgecolor="#b0b0b0", linewidth=0.6, hatch=hatch)


def draw_cell(axis: Any, cell: Cell, column: int, row: int) -> None:
    """Draw a cell: its mean, bold for the model's own language, and the sd in small letters."""
    axis.add_patch(patch(cell.kind, (column, row)))
    box = {"facecolor": KIND_COLOURS[cell.kind], "edgecolor": "none", "pad": 0.8}
    weight = "bold" if cell.kind is Kind.OWN else "normal"
    has_deviation = cell.deviation is not None
    style = {"ha": "center", "va": "center", "bbox": box}
    axis.text(column + 0.5, row + (0.37 if has_deviation else 0.5), f"{cell.mean:.1f}", size=8, weight=weight, **style)
    if has_deviation:
        axis.text(column + 0.5, row + 0.74, f"± {cell.deviation:.1f}", size=5.5, **style)


def draw_curves(plan: StudyPlan, stem: Path) -> bool:
    """Draw the losses of pre-training, of models from random weights and of those that go on; whether there are any."""
    curves = {name: found for name in plan.study.models if (found := curves_of(name, plan))}
    if not curves:
        return False
    panels = sorted({(bool(plan.study.models[name].start), title) for name, own in curves.items() for title in own})
    figure, axes = pyplot().subplots(1, len(panels), figsize=(5 * len(panels), 3.6), squeeze=False)
    for axis, (goes_on, title) in zip(axes[0], panels, strict=True):
        own = {name: found[title] for name, found in curves.items() if title in found}
        own = {name: points for name, points in own.items() if bool(plan.study.models[name].start) == goes_on}
        for number, (name, points) in enumerate(own.items()):
            style = {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)]}
            axis.plot(*zip(*points, strict=True), label=name, marker="o" if len(points) < 3 else None, **style)
        kind = "continued pre-training" if goes_on else "pre-training"
        axis.set(title=f"{kind}, {title}", xlabel="update", ylabel="nats")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.tight_layout()
    save(figure, files_of(stem), dpi=160, margins="tight")
    return True


def draw_layers(curves: Mapping[str, Mapping[str, Mapping[int, float]]], stem: Path) -> bool:
    """Draw what probes found by layer: a panel for each number, a curve for each model; whether there is any.

    Colour, line and marker say the model, in all panels alike.
    """
    if not curves:
        return False
    models = list(dict.fromkeys(model for own in curves.values() for model in own))
    num_rows = math.ceil(len(curves) / PANELS_A_ROW)
    num_columns = math.ceil(len(curves) / num_rows)
    size = 4.4 * num_columns, 3.6 * num_rows
    figure, axes = pyplot().subplots(num_rows, num_columns, figsize=size, squeeze=False)
    for axis in axes.flat[len(curves) :]:
        axis.remove()
    for axis, (name, of_models) in zip(axes.flat, curves.items(), strict=False):
        for model, curve in of_models.items():
            number = models.index(model)
            style = {"color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)]}
            style["marker"] = MARKERS[number % len(MARKERS)]
            axis.plot(*zip(*sorted(curve.items()), strict=True), label=model, **style)
        axis.set(title=name, xlabel="layer (0: embeddings)")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.tight_layout()
    save(figure, files_of(stem), dpi=160, margins="tight")
    return True


def curves_of(model: str, plan: StudyPlan) -> dict[str, list[tuple[int, float]]]:
    """{"training" and "held out": (update, loss)} of the pre-training of a model, as far as it has come.

    The loss is that of a side of a pair, the mean over kinds of batches where there are both.
    """
    if (run := pretraining_run(model, plan)) is None:
        return {}
    lines = read_metrics(run)
    found = {}
    for title, part in PARTS.items():
        names = [f"{part}/{kind}_loss" for kind in KINDS]
        points = [
            (int(line["step"]), statistics.fmean(losses))
            for line in lines
            if (losses := [line[name] for name in names if name in line])
        ]
        if points:
            found[title] = points
    return found
