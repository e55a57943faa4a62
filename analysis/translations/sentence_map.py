"""A map of sentences: their vectors in two dimensions, in which translations are joined by lines."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from analysis.figures import figure_of
from analysis.parallel.vectors import ParallelVectors
from analysis.results import Cell, Column, Table
from data_tools.files.atomic import write_texts
from finetune.understanding.retrieval.matching import unit_rows
from training.figures import COLOURS, MARKERS, files_of, save

NAME = "map"
TABLE = f"{NAME}.csv"


class Projection(StrEnum):
    """How vectors become points of a plane."""

    UMAP = "umap"  # of the package umap-learn
    TSNE = "tsne"
    PCA = "pca"


TITLES = {Projection.UMAP: "UMAP", Projection.TSNE: "t-SNE", Projection.PCA: "PCA"}


@dataclass(frozen=True)
class SentenceMap:
    """The points (languages x rows, 2) of one layer, those of a language after the other."""

    layer: int
    languages: Sequence[str]
    points: np.ndarray

    @property
    def by_language(self) -> Mapping[str, np.ndarray]:
        """(rows, 2) of each language, of which row i translates row i."""
        return dict(zip(self.languages, np.split(self.points, len(self.languages)), strict=True))


def projection_named(name: str | None) -> Projection:
    """The projection of a flag; without one UMAP if it is installed, else t-SNE. Raises ValueError if it is not."""
    has_umap = importlib.util.find_spec("umap") is not None
    if name is None:
        return Projection.UMAP if has_umap else Projection.TSNE
    if name == Projection.UMAP and not has_umap:
        raise ValueError("--projection umap: is not installed; pip install umap-learn, or choose tsne or pca")
    return Projection(name)


def map_of(
    vectors: ParallelVectors, layer: int, rows: np.ndarray, projection: Projection, centre: bool, seed: int
) -> SentenceMap:
    """The map of some rows in all languages, by cosine; `centre` subtracts the mean vector of each language."""
    parts = [vectors.of_layer(language, layer)[rows] for language in vectors.languages]
    if centre:
        parts = [x - vectors.centre_of(language, layer) for x, language in zip(parts, vectors.languages, strict=True)]
    points = projected(unit_rows(np.concatenate(parts)), projection, seed)
    return SentenceMap(layer, vectors.languages, points)


def projected(x: np.ndarray, projection: Projection, seed: int) -> np.ndarray:
    """The rows of x (N, D) as points (N, 2), from 4 rows on. Of rows of length 1, neighbours are those by cosine."""
    if projection is Projection.UMAP:
        from umap import UMAP

        return UMAP(n_neighbors=min(15, len(x) - 1), init="pca", random_state=seed, n_jobs=1).fit_transform(x)
    if projection is Projection.TSNE:
        from sklearn.manifold import TSNE

        # The usual perplexity; t-SNE wants less than the number of points, and makes sense with three times more.
        return TSNE(perplexity=min(30, (len(x) - 1) / 3), init="pca", random_state=seed).fit_transform(x)
    from sklearn.decomposition import PCA

    return PCA(n_components=2, random_state=seed).fit_transform(x)


def write_maps(
    output: Path, maps: Sequence[SentenceMap], sentences: Mapping[int, Sequence[str]], projection: Projection
) -> None:
    """Write the points as a table, with line numbers and sentences {line: (one of each language)}, and draw them."""
    texts = list(zip(*sentences.values(), strict=True))  # of each language
    rows: list[list[Cell]] = [
        [own.layer, line, language, float(x), float(y), sentence]
        for own in maps
        for (language, points), of_language in zip(own.by_language.items(), texts, strict=True)
        for line, sentence, (x, y) in zip(sentences, of_language, points, strict=True)
    ]
    columns = [Column(name) for name in ("layer", "line", "language", "x", "y", "sentence")]
    write_texts(output, {TABLE: Table("Map of sentences", columns, rows).csv()})
    draw(output, maps, projection)


def draw(output: Path, maps: Sequence[SentenceMap], projection: Projection) -> None:
    """Draw a panel for each layer; each sentence is joined with its translations by a star of lines to their mean."""
    from matplotlib.collections import LineCollection

    with figure_of(5 * len(maps), 5.2, 1, len(maps)) as (figure, axes):
        for axis, own in zip(axes.flat, maps, strict=True):
            points = np.stack(list(own.by_language.values()), axis=1)  # (rows, languages, 2)
            centres = np.broadcast_to(points.mean(axis=1, keepdims=True), points.shape)
            lines = list(np.stack([points, centres], axis=2).reshape(-1, 2, 2))
            axis.add_collection(LineCollection(lines, colors="0.7", linewidths=0.5, zorder=1))
            for number, (language, of_language) in enumerate(own.by_language.items()):
                look = {
                    "color": COLOURS[number % len(COLOURS)],
                    "marker": MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
                }
                axis.scatter(*of_language.T, s=12, label=language, linewidths=0, zorder=2, **look)
            axis.set_title(f"layer {own.layer}")
            axis.set_xlabel(f"{TITLES[projection]}, dimension 1")
            axis.set_ylabel(f"{TITLES[projection]}, dimension 2")
            axis.set_xticks([])
            axis.set_yticks([])
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=8, frameon=False)
        save(figure, files_of(output / NAME))
