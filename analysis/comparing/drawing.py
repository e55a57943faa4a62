"""Figures of languages: curves by layer, a matrix, a tree, and the layers of two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis.comparing.comparison import Found, Numbers, Pair
from analysis.comparing.measures import Measure
from analysis.comparing.retrieval import Variant
from analysis.figures import Curve, HeatMap, draw_curves, draw_heat_maps, figure_of
from training.figures import COLOURS, files_of, save

SIMILARITY, ACCURACY, MATRIX, TREE, MODELS = "languages", "accuracy", "matrix", "tree", "models"
FIGURES = (SIMILARITY, ACCURACY, MATRIX, TREE, MODELS)
MOST_CURVES = 10  # of pairs of languages; of more, there is a curve for each language
LAYER_LABEL = "layer (0 = embeddings)"
PLUGGED = {"h_s_first": "H and S, first language", "h_s_second": "H and S, second language", "s_s": "S of both"}
HELD_OUT = {"held_out": "as they are", "held_out_centred": "centred", "held_out_rotated": "rotated"}
TOLD = {"before": "as they are", "centred": "languages centred", "chance": "chance"}


def mean_of(by_pair: Mapping[Pair, Numbers], column: str) -> float:
    """The mean of a column over the pairs that have it, NaN if none has."""
    values = [numbers[column] for numbers in by_pair.values() if column in numbers]
    return float(np.mean(values)) if values else float("nan")


def draw_similarity(output: Path, found: Found) -> None:
    """Draw the measures of each pair or language by layer and, plugged out and in, the means over pairs."""
    columns = found.columns
    panels = {measure.upper(): measure_curves(found, measure) for measure in Measure if measure in columns}
    if set(PLUGGED) <= set(columns):
        panels["CKA, plugged out and in"] = mean_curves(found, PLUGGED)
    if panels:
        draw_curves(output, SIMILARITY, panels, LAYER_LABEL, "similarity of languages")


def draw_accuracy(output: Path, found: Found) -> None:
    """Draw by layer how often translations and languages are found, the means over all pairs."""
    panels = {}
    if str(Variant.COSINE) in found.columns:
        panels["translations found, %"] = mean_curves(found, {str(variant): str(variant) for variant in Variant}, 100)
    if set(HELD_OUT) <= set(found.columns):
        panels["held-out translations found, %"] = mean_curves(found, HELD_OUT, 100)
    if found.told:
        panels["languages told, %"] = [
            Curve(shown, list(found.told), [100 * numbers[name] for numbers in found.told.values()])
            for name, shown in TOLD.items()
        ]
    if panels:
        draw_curves(output, ACCURACY, panels, LAYER_LABEL, "accuracy by layer")


def mean_curves(found: Found, names: Mapping[str, str], scale: float = 1) -> list[Curve]:
    """A curve for each column, {column: name of the curve}: the means over all pairs."""
    return [
        Curve(shown, list(found.by_layer), [scale * mean_of(by_pair, name) for by_pair in found.by_layer.values()])
        for name, shown in names.items()
    ]


def measure_curves(found: Found, measure: Measure) -> list[Curve]:
    """A curve for each pair of languages or, of many, for each language: the mean of its pairs."""
    layers, pairs = list(found.by_layer), list(next(iter(found.by_layer.values())))
    if len(pairs) <= MOST_CURVES:
        groups = {"-".join(pair): [pair] for pair in pairs}
    else:
        groups = {name: [pair for pair in pairs if name in pair] for name in dict.fromkeys(sum(pairs, ()))}
    return [
        Curve(
            name,
            layers,
            [mean_of({pair: by_pair[pair] for pair in own}, measure) for by_pair in found.by_layer.values()],
        )
        for name, own in groups.items()
    ]


def draw_grid(
    output: Path,
    name: str,
    grid: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    labels: tuple[str, str],
    title: str,
) -> None:
    """Draw numbers up to 1 as a heat map; `labels` are those of the rows and columns."""
    least = min(0.0, float(np.nanmin(grid)))
    draw_heat_maps(
        output, name, [HeatMap(grid.tolist(), rows, columns, *labels, least=least, most=1, is_written=True)], title
    )


def draw_tree(output: Path, languages: Sequence[str], joins: np.ndarray, distance: str, title: str) -> None:
    """Draw the joins of scipy's linkage, languages on the right; `distance` says what it is."""
    from scipy.cluster.hierarchy import dendrogram

    with figure_of(5, 0.28 * len(languages) + 1.4) as (figure, ((axis,),)):
        dendrogram(
            joins,
            labels=list(languages),
            orientation="left",
            ax=axis,
            color_threshold=0,
            above_threshold_color=COLOURS[0],
        )
        axis.grid(False)
        axis.spines["left"].set_visible(False)
        axis.set_xlabel(distance)
        figure.suptitle(title)
        save(figure, files_of(output / TREE))
