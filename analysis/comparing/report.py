"""What was found of languages: languages.json, .csv and .md, trees in Newick's format, and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analysis.comparing.comparison import Found, Numbers, Pair
from analysis.comparing.drawing import (
    FIGURES,
    MATRIX,
    MODELS,
    PLUGGED,
    TREE,
    draw_accuracy,
    draw_grid,
    draw_similarity,
    draw_tree,
    mean_of,
)
from analysis.comparing.measures import Measure
from analysis.comparing.tree import joined, newick, similarity_matrix
from analysis.results import Cell, Column, Table, number_or_none, result_names, write_results
from data_tools.files.atomic import write_texts

NAME = "languages"
NOT_PERCENT = (*Measure, *PLUGGED)


def tree_name(layer: int) -> str:
    """The file of a layer's tree."""
    return f"{TREE}.layer{layer}.nwk"


def all_names(layers: Sequence[int]) -> list[str]:
    """The files that may be written."""
    return [*result_names(NAME, FIGURES), *map(tree_name, layers)]


def write_report(
    output: Path, settings: Mapping[str, Any], languages: Sequence[str], found: Found, main_layer: int
) -> None:
    """Write all numbers and figures; the matrix and the drawn tree are those of `main_layer`."""
    columns = [
        Column(name, decimals=3) if name in NOT_PERCENT else Column(name, is_percent=True) for name in found.columns
    ]
    means = {
        column.name: {layer: mean_of(by_pair, column.name) for layer, by_pair in found.by_layer.items()}
        for column in columns
    }
    of_means = Table(
        "Means over all pairs by layer",
        [Column("layer"), *columns],
        [[layer, *(own[layer] for own in means.values())] for layer in found.by_layer],
    )
    of_pairs = pair_table(f"Pairs in layer {main_layer}", columns, {main_layer: found.by_layer[main_layer]})
    tables = [
        *([of_means] if columns else []),
        *([told_table(found.told)] if found.told else []),
        *([of_pairs] if columns else []),
        *([model_table(found.models)] if found.models else []),
    ]
    # Without numbers of pairs there are those of the classifier alone.
    for_spreadsheets = pair_table("Pairs", columns, found.by_layer) if columns else tables[0]
    content = {
        **settings,
        "means": {name: by_number(own) for name, own in means.items()},
        "pairs": {
            str(layer): {"-".join(pair): by_number(numbers) for pair, numbers in by_pair.items()}
            for layer, by_pair in found.by_layer.items()
        },
        "classifier": {
            name: {str(layer): numbers[name] for layer, numbers in found.told.items()}
            for name in next(iter(found.told.values()), {})
        },
        "models": {
            str(layer): {str(other): by_number(numbers) for other, numbers in own.items()}
            for layer, own in found.models.items()
        },
    }
    draw_similarity(output, found)
    draw_accuracy(output, found)
    write_matrix_and_trees(output, languages, found, main_layer)
    if found.models:
        draw_models(output, found.models)
    write_results(output, NAME, f"Languages in {settings['model']}", content, tables, for_spreadsheets)


def by_number(numbers: Mapping[Any, float]) -> dict[str, float | None]:
    """As JSON has them."""
    return {str(name): number_or_none(value) for name, value in numbers.items()}


def pair_table(title: str, columns: Sequence[Column], by_layer: Mapping[int, Mapping[Pair, Numbers]]) -> Table:
    """A row for each layer and pair."""
    rows: list[list[Cell]] = [
        [layer, *pair, *(numbers.get(column.name) for column in columns)]
        for layer, by_pair in by_layer.items()
        for pair, numbers in by_pair.items()
    ]
    return Table(title, [*map(Column, ("layer", "first", "second")), *columns], rows)


def told_table(told: Mapping[int, Numbers]) -> Table:
    """How well the languages of sentences are told, by layer."""
    names = list(next(iter(told.values())))
    rows = [[layer, *numbers.values()] for layer, numbers in told.items()]
    return Table(
        "Languages that a linear classifier tells",
        [Column("layer"), *(Column(name, is_percent=True) for name in names)],
        rows,
    )


def model_grid(models: Mapping[int, Mapping[int, Numbers]]) -> np.ndarray:
    """The mean CKA over languages, (layers, layers of the other model)."""
    return np.array([[np.mean(list(numbers.values())) for numbers in own.values()] for own in models.values()])


def model_table(models: Mapping[int, Mapping[int, Numbers]]) -> Table:
    """The mean CKA over languages, with a row for each layer and a column for each of the other model."""
    others = list(next(iter(models.values())))
    rows = [[layer, *own] for layer, own in zip(models, model_grid(models).tolist(), strict=True)]
    columns = [Column("layer"), *(Column(f"other {layer}", decimals=3) for layer in others)]
    return Table("CKA with the other model's layers, mean over languages", columns, rows)


def draw_models(output: Path, models: Mapping[int, Mapping[int, Numbers]]) -> None:
    """Draw the mean CKA over languages of all layers of both models."""
    others = list(next(iter(models.values())))
    labels = ("layer of the model", "layer of the other model")
    title = "CKA of two models"
    draw_grid(output, MODELS, model_grid(models), list(map(str, models)), list(map(str, others)), labels, title)


def write_matrix_and_trees(output: Path, languages: Sequence[str], found: Found, main_layer: int) -> None:
    """Draw the matrix of the first measure, and of three languages or more write their trees and draw one."""
    measure = next((name for name in found.columns if name in list(Measure)), None)
    if measure is None:
        return
    similarities = {
        layer: {pair: numbers[measure] for pair, numbers in by_pair.items()}
        for layer, by_pair in found.by_layer.items()
    }
    matrix = similarity_matrix(languages, similarities[main_layer])
    draw_grid(output, MATRIX, matrix, languages, languages, ("", ""), f"{measure.upper()} in layer {main_layer}")
    if len(languages) > 2:
        joins = {layer: joined(languages, own) for layer, own in similarities.items()}
        write_texts(output, {tree_name(layer): newick(languages, own) for layer, own in joins.items()})
        draw_tree(output, languages, joins[main_layer], f"1 − {measure.upper()}", f"languages in layer {main_layer}")
