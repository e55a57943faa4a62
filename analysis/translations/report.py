"""The cosines of translations by layer, pair and language: similarity.json, .csv and .md, and their histograms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.figures import figure_of
from analysis.results import Cell, Column, Table, write_results
from analysis.translations.cosines import EDGES, ByPair, Compared, Cosines, by_language, total
from training.figures import COLOURS, files_of, save

NAME = FIGURE = "similarity"
NUM_BINS = 50  # of a drawn histogram
NUMBERS = [
    *(Column(name, decimals=3) for name in ("mean", "sd", "random_mean", "random_sd")),
    Column("higher", is_percent=True),
]


@dataclass(frozen=True)
class Searched:
    """What a search has found: in each layer, how many queries have a neighbour above the threshold."""

    num_queries: int
    num_sentences: int
    threshold: float
    num_with_neighbour: Mapping[int, int]

    @property
    def table(self) -> Table:
        columns = [Column(name) for name in ("layer", "queries", "sentences searched", "queries with a neighbour")]
        rows = [
            [layer, self.num_queries, self.num_sentences, count] for layer, count in self.num_with_neighbour.items()
        ]
        return Table("Nearest neighbours", columns, rows)

    @property
    def as_json(self) -> dict[str, Any]:
        return {
            **{"queries": self.num_queries, "sentences": self.num_sentences, "threshold": self.threshold},
            "queries_with_neighbour": {str(layer): count for layer, count in self.num_with_neighbour.items()},
        }


def numbers_of(compared: Compared) -> dict[str, float]:
    """{column: number}."""
    both = (compared.translations, compared.random)
    numbers = [number for own in both for number in (own.mean, own.sd)]
    return dict(zip([column.name for column in NUMBERS], [*numbers, compared.higher], strict=True))


def write_report(
    output: Path, settings: Mapping[str, Any], by_layer: Mapping[int, ByPair], searched: Searched | None
) -> None:
    """Write all numbers and, where there are translations, the figure."""
    tables = [] if searched is None else [searched.table]
    content = {**settings, **({} if searched is None else {"neighbours": searched.as_json})}
    if by_layer:
        of_languages = {layer: by_language(by_pair) for layer, by_pair in by_layer.items()}
        pairs: list[list[Cell]] = [
            [layer, *pair, *numbers_of(own).values()]
            for layer, found in by_layer.items()
            for pair, own in found.items()
        ]
        languages: list[list[Cell]] = [
            [layer, language, *numbers_of(own).values()]
            for layer, found in of_languages.items()
            for language, own in found.items()
        ]
        table = Table("Cosines by pair", [*map(Column, ("layer", "first", "second")), *NUMBERS], pairs)
        if len(next(iter(of_languages.values()))) > 2:
            tables.append(Table("Cosines by language", [Column("layer"), Column("language"), *NUMBERS], languages))
        tables.append(table)
        together = {layer: numbers_of(total(by_pair.values())) for layer, by_pair in by_layer.items()}
        content |= {
            "means": {
                column.name: {str(layer): numbers[column.name] for layer, numbers in together.items()}
                for column in NUMBERS
            },
            "pairs": {
                str(layer): {"-".join(pair): numbers_of(own) for pair, own in found.items()}
                for layer, found in by_layer.items()
            },
            "by_language": {
                str(layer): {language: numbers_of(own) for language, own in found.items()}
                for layer, found in of_languages.items()
            },
        }
        draw(output, by_layer, settings["centre"])
    write_results(output, NAME, f"Similarity by {settings['model']}", content, tables, tables[-1])


def panels_of(by_pair: ByPair) -> dict[str, Compared]:
    """What is drawn of a layer: each language with all others or, of two languages, their pair."""
    if len(by_pair) == 1:
        return {"-".join(pair): own for pair, own in by_pair.items()}
    return by_language(by_pair)


def draw(output: Path, by_layer: Mapping[int, ByPair], centre: bool) -> None:
    """Draw histograms of cosines, a row of panels for each layer."""
    rows = {layer: panels_of(by_pair) for layer, by_pair in by_layer.items()}
    columns = len(next(iter(rows.values())))
    with figure_of(max(3.2 * columns, 4.5), 2.6 * len(rows) + 0.4, len(rows), columns) as (figure, axes):
        for of_layer, (layer, panels) in zip(axes, rows.items(), strict=True):
            bins = drawn_bins(panels.values())
            for axis, (name, own) in zip(of_layer, panels.items(), strict=True):
                lines = [
                    outline(axis, own.random, bins, "random pairs", COLOURS[1], "--"),
                    outline(axis, own.translations, bins, "translations", COLOURS[0], "-"),
                ]
                axis.set_title(f"{name}, layer {layer}", fontsize=9)
        for axis in axes[-1]:
            axis.set_xlabel("cosine of centred vectors" if centre else "cosine")
        for axis in axes[:, 0]:
            axis.set_ylabel("% of pairs")
        figure.legend(handles=lines, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        save(figure, files_of(output / FIGURE))


def drawn_bins(panels: Iterable[Compared]) -> np.ndarray:
    """The first of EDGES of each bin that is drawn, and the last: about NUM_BINS over all cosines that there are."""
    histograms = [own.histogram for panel in panels for own in (panel.translations, panel.random)]
    filled = np.flatnonzero(np.sum(histograms, axis=0))
    width = -(-(filled[-1] + 1 - filled[0]) // NUM_BINS)
    bins = np.arange(filled[0], filled[-1] + 1 + width, width)
    return np.minimum(bins, len(EDGES) - 1)


def outline(axis: Any, cosines: Cosines, bins: np.ndarray, label: str, colour: str, line: str) -> Any:
    """Draw a histogram in percent, filled so lightly that another shows through; return its outline."""
    shares = 100 * np.add.reduceat(cosines.histogram, bins[:-1]) / cosines.count
    axis.stairs(shares, EDGES[bins], fill=True, alpha=0.25, color=colour)
    return axis.stairs(shares, EDGES[bins], label=label, color=colour, linestyle=line, linewidth=1.4)
