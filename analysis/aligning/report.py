"""The scores of an alignment by layer and method: alignment.json, .csv and .md, and the figure of AER."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.aligning.choice import Chosen, Scores, chosen_elsewhere
from analysis.aligning.links import Method
from analysis.aligning.scores import Counts
from analysis.figures import Curve, draw_curves
from analysis.results import Column, Table, number_or_none, write_results
from data_tools.cli import warn

NAME, FIGURE = "alignment", "aer"
METRICS = ("aer", "precision", "recall", "f1")
COLUMNS = [Column("method"), Column("layer"), *(Column(metric, is_percent=True) for metric in METRICS), Column("links")]


def write_report(output: Path, settings: Mapping[str, Any], scores: Scores | None, development: Scores | None) -> None:
    """Write how pairs were aligned and, if they have gold links, all scores, chosen layers and the figure.

    `development` are the scores of the pairs on which layers are chosen, if there are such.
    """
    if scores is None:
        table = Table("Settings", [Column("pairs"), Column("by")], [[settings["pairs"], settings["by"]]])
        write_results(output, NAME, f"Alignment by {settings['model']}", settings, [table], table)
        return
    totals = {
        method: {layer: sum(halves, Counts()) for layer, halves in by_layer.items()}
        for method, by_layer in scores.items()
    }
    chosen = {}
    where = "the other half of the pairs" if development is None else "development pairs"
    for method, by_layer in scores.items():
        found = chosen_elsewhere(by_layer, None if development is None else development[method])
        if found is None:
            warn(f"{method}: no layer is chosen, since {where} have no links by which one is better")
        else:
            chosen[method] = found
    rows = [[method, layer, *as_json(own).values()] for method in totals for layer, own in totals[method].items()]
    scores_by_layer = Table("Scores by layer", COLUMNS, rows)
    with_chosen = Table(
        f"With the layer that is best on {where}",
        COLUMNS,
        [[method, shown(own), *as_json(own.counts).values()] for method, own in chosen.items()],
    )
    in_json = {
        method: {str(layer): as_json(own) for layer, own in by_layer.items()} for method, by_layer in totals.items()
    }
    content = {
        **settings,
        "aer": {layer: own["aer"] for layer, own in in_json[next(iter(totals))].items()},
        "scores": in_json,
        "chosen_on": "other half" if development is None else "development",
        "chosen": {method: {"layers": list(own.layers), **as_json(own.counts)} for method, own in chosen.items()},
    }
    draw(output, in_json, f"alignment of {settings['pairs']:,} pairs by {settings['by']}")
    write_results(
        output, NAME, f"Alignment by {settings['model']}", content, [with_chosen, scores_by_layer], scores_by_layer
    )


def as_json(counts: Counts) -> dict[str, float | None]:
    """{metric: number, None where it is not defined}, with the number of links."""
    numbers = (counts.aer, counts.precision, counts.recall, counts.f1)
    return {**dict(zip(METRICS, map(number_or_none, numbers), strict=True)), "links": counts.num_links}


def shown(chosen: Chosen) -> str:
    """The chosen layer, or those of both halves where they differ."""
    return ", ".join(str(layer) for layer in dict.fromkeys(chosen.layers))


def draw(output: Path, scores: Mapping[Method, Mapping[str, Mapping[str, float | None]]], title: str) -> None:
    """Draw AER and F1 of {method: {layer: {metric: number}}} by layer, a curve for each method."""
    panels = {
        label: [
            Curve(str(method), list(map(int, by_layer)), [in_percent(own[metric]) for own in by_layer.values()])
            for method, by_layer in scores.items()
        ]
        for label, metric in (("AER, %", "aer"), ("F1, %", "f1"))
    }
    draw_curves(output, FIGURE, panels, "layer (0 = embeddings)", title)


def in_percent(number: float | None) -> float:
    """A share in percent, NaN for a missing one, which is not drawn."""
    return math.nan if number is None else 100 * number
