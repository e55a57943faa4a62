"""The scores of an alignment by layer and method: alignment.json, .csv and .md, and the figure of AER."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.aligning.choice import Chosen, Scores, chosen_elsewhere
from analysis.aligning.links import Method
from analysis.aligning.scores import Counts
from analysis.figures import Curve, draw_curves
from analysis.results import Cell, Column, Table, number_or_none, write_results

NAME, FIGURE = "alignment", "aer"
METRICS = ("aer", "precision", "recall", "f1")
COLUMNS = [Column("method"), Column("layer"), *(Column(metric, is_percent=True) for metric in METRICS), Column("links")]


def write_report(output: Path, settings: Mapping[str, Any], scores: Scores | None, development: Scores | None) -> None:
    """Write how pairs were aligned and, if they have gold links, all scores, chosen layers and the figure.

    `development` are the scores of the pairs on which layers are chosen, if there are such.
    """
    if scores is None:
        write_results(
            output, NAME, "Alignment", settings, [], Table("Settings", [Column("pairs")], [[settings["pairs"]]])
        )
        return
    chosen = {
        method: chosen_elsewhere(by_layer, None if development is None else development[method])
        for method, by_layer in scores.items()
    }
    by_layer = Table(
        "Scores by layer",
        COLUMNS,
        [[method, layer, *figures(sum(own, Counts()))] for method in scores for layer, own in scores[method].items()],
    )
    where = "the other half of the pairs" if development is None else "development pairs"
    with_chosen = Table(
        f"With the layer that is best on {where}",
        COLUMNS,
        [[method, shown(own), *figures(own.counts)] for method, own in chosen.items()],
    )
    main = next(iter(scores))
    content = {
        **settings,
        "aer": {str(layer): number_or_none(sum(own, Counts()).aer) for layer, own in scores[main].items()},
        "scores": {
            method: {str(layer): as_json(sum(own, Counts())) for layer, own in own_scores.items()}
            for method, own_scores in scores.items()
        },
        "chosen_on": "other half" if development is None else "development",
        "chosen": {method: {"layers": list(own.layers), **as_json(own.counts)} for method, own in chosen.items()},
    }
    write_results(output, NAME, f"Alignment by {settings['model']}", content, [with_chosen, by_layer], by_layer)
    draw(output, scores, settings)


def figures(counts: Counts) -> list[Cell]:
    """The metrics, and the number of links."""
    return [*(number for number in as_json(counts).values())]


def as_json(counts: Counts) -> dict[str, float | None]:
    """{metric: number, None where it is not defined}, with the number of links."""
    numbers = (counts.aer, counts.precision, counts.recall, counts.f1)
    return {**dict(zip(METRICS, map(number_or_none, numbers), strict=True)), "links": counts.num_links}


def shown(chosen: Chosen) -> str:
    """The chosen layer, or those of both halves where they differ."""
    return ", ".join(str(layer) for layer in dict.fromkeys(chosen.layers))


def draw(output: Path, scores: Scores, settings: Mapping[str, Any]) -> None:
    """Draw AER and F1 by layer, a curve for each method."""

    def curves(metric: str) -> list[Curve]:
        return [curve_of(method, own, metric) for method, own in scores.items()]

    def curve_of(method: Method, own: Mapping[int, list[Counts]], metric: str) -> Curve:
        values = [as_json(sum(counts, Counts()))[metric] for counts in own.values()]
        return Curve(str(method), list(own), [float("nan") if value is None else 100 * value for value in values])

    panels = {"AER, %": curves("aer"), "F1, %": curves("f1")}
    draw_curves(
        output,
        FIGURE,
        panels,
        "layer (0 = embeddings)",
        f"alignment of {settings['pairs']:,} pairs by {settings['by']}",
    )
