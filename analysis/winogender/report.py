"""Gender parity and accuracy: bias.json, .csv and .md, and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from analysis.figures import Bars, Point, draw_bars, draw_points
from analysis.results import Cell, Column, Table, write_results
from analysis.winogender.items import GenderPair
from analysis.winogender.scores import (
    OccupationScore,
    Parity,
    accuracy_of_groups,
    scores_of_occupations,
    truth,
)

NAME = FIGURE = "bias"
OCCUPATIONS = "occupations"  # the figure of occupations
MODEL, ALWAYS, NEVER = "model", "always entailed", "never entailed"


def parities(pairs: Sequence[GenderPair], is_predicted: np.ndarray, seed: int) -> dict[str, Parity]:
    """The scores of the model, and of the two classifiers that always say the same."""
    predictions = {MODEL: is_predicted, ALWAYS: np.ones_like(is_predicted), NEVER: np.zeros_like(is_predicted)}
    return {name: Parity.of(own, truth(pairs), seed) for name, own in predictions.items()}


def correlation(occupations: Sequence[OccupationScore]) -> dict[str, float] | None:
    """Spearman's correlation of the lean with the share of women, and its p; None where it has none."""
    known = [(one.share_of_women, one.lean) for one in occupations if one.share_of_women is not None]
    if len(known) < 3 or any(len(set(values)) == 1 for values in zip(*known, strict=True)):
        return None
    found = spearmanr(*zip(*known, strict=True))
    return {"spearman": float(found.statistic), "p": float(found.pvalue)}


def write_report(
    output: Path,
    settings: Mapping[str, Any],
    pairs: Sequence[GenderPair],
    is_predicted: np.ndarray,
    probabilities: np.ndarray,
    seed: int,
) -> None:
    """Write all scores, and figures; predictions and probabilities of entailment are (pairs, 2)."""
    scores = parities(pairs, is_predicted, seed)
    groups = accuracy_of_groups(pairs, is_predicted)
    occupations = scores_of_occupations(pairs, is_predicted, probabilities)
    found = correlation(occupations)
    content = {
        **settings,
        "pairs": len(pairs),
        "share_predicted_entailed": float(is_predicted.mean()),
        **{name: asdict(score) for name, score in scores.items()},
        "gotcha": {
            pronoun: {
                kind: {"items": items, "accuracy": accuracy}
                for (own, kind), (items, accuracy) in groups.items()
                if own == pronoun
            }
            for pronoun in dict.fromkeys(pronoun for pronoun, _ in groups)
        },
        "lean_with_share_of_women": found,
        "occupations": {
            one.occupation: {key: value for key, value in asdict(one).items() if key != "occupation"}
            for one in occupations
        },
    }
    main = table_of_parity(scores)
    tables = [main]
    if groups:
        tables.append(table_of_groups(groups))
    if occupations:
        tables.append(table_of_occupations(occupations, found))
    draw(output, scores, occupations)
    write_results(output, NAME, f"Gender bias of {settings['model']}", content, tables, main)


def table_of_parity(scores: Mapping[str, Parity]) -> Table:
    """The model beside those that always say the same."""
    columns = [Column("classifier"), Column("pairs")]
    columns += [
        Column(f"{name}{end}", is_percent=True) for name in ("GPS", "accuracy") for end in ("", " low", " high")
    ]
    rows: list[list[Cell]] = [
        [name, score.pairs, *asdict(score.gps).values(), *asdict(score.accuracy).values()]
        for name, score in scores.items()
    ]
    return Table("Gender parity score and accuracy, with 95 % intervals", columns, rows)


def table_of_groups(groups: Mapping[tuple[str, str], tuple[int, float]]) -> Table:
    """Accuracy where the pronoun speaks against whom it means, and elsewhere."""
    columns = [Column("pronoun"), Column("kind"), Column("items"), Column("accuracy", is_percent=True)]
    rows: list[list[Cell]] = [[*group, items, accuracy] for group, (items, accuracy) in groups.items()]
    return Table("Accuracy by whether the pronoun speaks against whom it means (gotcha)", columns, rows)


def table_of_occupations(occupations: Sequence[OccupationScore], found: Mapping[str, float] | None) -> Table:
    """The occupations by their share of women."""
    title = "Occupations"
    if found is not None:
        title += f": lean and share of women correlate by {found['spearman']:.2f} (Spearman, p {found['p']:.2g})"
    columns = [Column("occupation"), *(Column(name, is_percent=True) for name in ("women", "GPS", "accuracy", "lean"))]
    rows: list[list[Cell]] = [
        [one.occupation, one.share_of_women, one.gps, one.accuracy, one.lean] for one in occupations
    ]
    return Table(title, columns, rows)


def draw(output: Path, scores: Mapping[str, Parity], occupations: Sequence[OccupationScore]) -> None:
    """Draw parity and accuracy, and the lean of occupations by their share of women, where it is known."""
    names = list(scores)
    own = [
        Bars("GPS", names, [100 * score.gps.value for score in scores.values()]),
        Bars("accuracy", names, [100 * score.accuracy.value for score in scores.values()]),
    ]
    draw_bars(output, FIGURE, {"%": own}, "gender parity and accuracy")
    if points := [
        Point(one.occupation, 100 * one.share_of_women, 100 * one.lean)
        for one in occupations
        if one.share_of_women is not None
    ]:
        labels = ("women in the occupation, %", "she − he: probability that the\npronoun means the occupation, %")
        draw_points(output, OCCUPATIONS, points, labels, "occupations by their share of women")
