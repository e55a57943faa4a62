"""What tokens attend to, by layer, head and side: attention.json, .csv and .md, curves by layer and heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.attending.maps import MEAN, WeightMap
from analysis.attending.reading import Reading
from analysis.attending.shares import METRICS, SIDES, Shares
from analysis.figures import Curve, HeatMap, draw_curves, draw_heat_maps
from analysis.results import Cell, Column, Table, number_or_none, write_results

NAME, CURVES, HEADS = "attention", "attention", "heads"
ALL = "all"  # tokens of both sides
UNIT = "weight, %"  # of heat maps
ENTROPY = "entropy"  # the only metric that is no share
COLUMNS = [
    *(Column("by"), Column("layer"), Column("head"), Column("tokens of")),
    *(Column(name, is_percent=name != ENTROPY, decimals=2 if name == ENTROPY else 1) for name in METRICS),
]
PANELS = {
    "other": "weight on the other sentence, %",
    "special": "weight on special tokens, %",
    "spread": "spread over the sentence, %",
}
Means = dict[str, float | None]  # by metric; None where no token has it


def map_name(reading: Reading, layer: int, head: str) -> str:
    """The name of a heat map's files, without the ending."""
    return f"map.{reading}.layer{layer}" + ("" if head == MEAN else f".head{head}")


def write_report(
    output: Path,
    settings: Mapping[str, Any],
    layers: Sequence[int],
    shares: Mapping[Reading, Shares],
    maps: Mapping[Reading, Sequence[WeightMap]],
) -> None:
    """Write the means of each reading's shares, and the maps of one sentence or pair, if there are some."""
    scores = {reading: scores_of(reading, layers, own) for reading, own in shares.items()}
    heads = {reading: heads_of(reading, layers, own) for reading, own in shares.items()}
    by_layer = [
        row_of(reading, layer, MEAN, side, means)
        for reading, own in scores.items()
        for layer, by_side in own.items()
        for side, means in by_side.items()
    ]
    by_head = [
        row_of(reading, layer, str(head), ALL, means)
        for reading, own in heads.items()
        for layer, of_heads in own.items()
        for head, means in enumerate(of_heads)
    ]
    content = {
        **settings,
        "means": {reading: means_by_layer(own) for reading, own in scores.items()},
        "scores": scores,
        "heads": heads,
        "maps": [as_json(reading, one) for reading, own in maps.items() for one in own],
    }
    shown = Table("What tokens attend to, by layer", COLUMNS, by_layer)
    table = Table("What tokens attend to, by layer and head", COLUMNS, by_layer + by_head)
    draw_shares(output, scores, f"attention by {', '.join(scores)} (texts: {settings['texts']:,})")
    draw_heads(output, heads)
    for reading, own in maps.items():
        for layer, head in dict.fromkeys((one.layer, one.head) for one in own):
            sides = [one for one in own if (one.layer, one.head) == (layer, head)]
            draw_map(output, reading, layer, head, sides)
    write_results(output, NAME, f"Attention of {settings['model']}", content, [shown], table)


def scores_of(reading: Reading, layers: Sequence[int], shares: Shares) -> dict[str, dict[str, Means]]:
    """{layer: {ALL, or a side that has tokens: the means over heads}}."""
    sides = {name: [side] for name, side in SIDES.items() if shares.counts[side].any()}
    by_side = {name: shares.means(own) for name, own in ({ALL: list(SIDES.values())} | sides).items()}
    return {
        str(layer): {name: named(reading, means[place]) for name, means in by_side.items()}
        for place, layer in enumerate(layers)
    }


def means_by_layer(scores: Mapping[str, Mapping[str, Means]]) -> dict[str, dict[str, float]]:
    """{metric: {layer: mean over the tokens of both sides}}, without the metrics that a reading does not have."""
    found: dict[str, dict[str, float]] = {}
    for layer, by_side in scores.items():
        for metric, value in by_side[ALL].items():
            if value is not None:
                found.setdefault(metric, {})[layer] = value
    return found


def heads_of(reading: Reading, layers: Sequence[int], shares: Shares) -> dict[str, list[Means]]:
    """{layer: the means of each head}, over the tokens of both sides."""
    means = shares.means(of_heads=True)
    return {str(layer): [named(reading, of_head) for of_head in means[place]] for place, layer in enumerate(layers)}


def named(reading: Reading, means: np.ndarray) -> Means:
    """The means (metrics,) by name, None for what a reading does not have."""
    values = zip(METRICS, means.tolist(), strict=True)
    return {metric: None if metric in reading.without else number_or_none(value) for metric, value in values}


def row_of(reading: Reading, layer: str, head: str, side: str, means: Means) -> list[Cell]:
    """A row of the tables."""
    return [str(reading), int(layer), head, side, *means.values()]


def as_json(reading: Reading, one: WeightMap) -> dict[str, Any]:
    """A map with its labels and weights."""
    place = {"by": reading, "layer": one.layer, "head": one.head}
    return {**place, "rows": one.rows, "columns": one.columns, "weights": one.weights.tolist()}


def draw_shares(output: Path, scores: Mapping[Reading, Mapping[str, Mapping[str, Means]]], title: str) -> None:
    """Draw the shares of PANELS by layer: a curve for each reading, and for TLM what uniform weights would be."""
    panels = {}
    for metric, label in PANELS.items():
        curves = [curve(str(reading), own, metric) for reading, own in scores.items()]
        if metric == "other" and Reading.TLM in scores:
            curves.append(curve(f"{Reading.TLM}, if uniform", scores[Reading.TLM], "uniform"))
        if any(not math.isnan(value) for one in curves for value in one.y):
            panels[label] = curves
    draw_curves(output, CURVES, panels, "layer", title)


def curve(name: str, scores: Mapping[str, Mapping[str, Means]], metric: str) -> Curve:
    """A metric by layer in percent, NaN where no token has it."""
    values = [by_side[ALL][metric] for by_side in scores.values()]
    return Curve(name, list(map(int, scores)), [math.nan if value is None else 100 * value for value in values])


def draw_heads(output: Path, heads: Mapping[Reading, Mapping[str, Sequence[Means]]]) -> None:
    """Draw a heat map of layers and heads for each reading: the weight on the sentence that is attended to."""
    maps = []
    for reading, own in heads.items():
        metric = "own" if reading is Reading.PLUGGED_OUT else "other"
        percent = [
            [math.nan if (value := means[metric]) is None else 100 * value for means in row] for row in own.values()
        ]
        columns = [str(head) for head in range(len(percent[0]))]
        what = "its own sentence" if metric == "own" else "the other"
        maps.append(HeatMap(percent, list(own), columns, "layer", "head", f"{reading}: on {what}", UNIT))
    draw_heat_maps(output, HEADS, maps, "weight on a sentence")


def draw_map(output: Path, reading: Reading, layer: int, head: str, maps: Sequence[WeightMap]) -> None:
    """Draw the maps of one layer and head, of a sentence or of each side that attends."""
    panels = [
        HeatMap((100 * one.weights).tolist(), one.rows, one.columns, "attends", "is attended to", unit=UNIT)
        for one in maps
    ]
    of_head = "mean over heads" if head == MEAN else f"head {head}"
    draw_heat_maps(output, map_name(reading, layer, head), panels, f"{reading}, layer {layer}, {of_head}")
