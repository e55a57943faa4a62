"""The scores of masked language models by language: forgetting.json, .csv and .md, and a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from analysis.figures import Bars, draw_bars
from analysis.masking.lines import Counts
from analysis.masking.scores import Score
from analysis.results import Cell, Column, Table, number_or_none, write_results

NAME = FIGURE = "forgetting"
AVERAGE = "avg"


class Metric(NamedTuple):
    """What people call a metric and how they read it, and whether it depends on how a tokenizer cuts."""

    title: str
    is_percent: bool
    decimals: int
    is_of_pieces: bool


METRICS = {
    "loss": Metric("MLM loss, nats a piece", False, 3, True),
    "accuracy": Metric("Accuracy of masked pieces", True, 1, True),
    "word_accuracy": Metric("Accuracy of masked words", True, 1, False),
    "bits_per_character": Metric("Masked words, bits a character", False, 3, False),
    "pseudo_perplexity": Metric("Pseudo-perplexity of a piece", False, 2, True),
    "pseudo_bits_per_character": Metric("Pseudo-log-likelihood, bits a character", False, 3, False),
}
Scores = Mapping[str, Mapping[str, Score]]  # model -> language -> score
Changes = Mapping[str, Mapping[str, Mapping[str, float | None]]]  # model before -> language -> metric -> difference


def with_average(scores: Scores) -> dict[str, dict[str, Score]]:
    """The scores, with the means over several languages."""
    return {
        model: {**own, AVERAGE: Score.mean(own.values())} if len(own) > 1 else dict(own)
        for model, own in scores.items()
    }


def changes_of(scores: Scores, after: str, is_comparable: bool) -> Changes:
    """{model before: {language: {metric: after − before}}}; None for what cannot be compared."""
    return {
        before: {
            language: {
                metric: number_or_none(asdict(scores[after][language])[metric] - value)
                if is_comparable or not METRICS[metric].is_of_pieces
                else None
                for metric, value in asdict(score).items()
            }
            for language, score in own.items()
        }
        for before, own in scores.items()
        if before != after
    }


def write_report(output: Path, settings: Mapping[str, Any], counts: Mapping[str, Counts], scores: Scores) -> None:
    """Write all scores, their changes, and a figure; the last of the models is the one after the change."""
    scores = with_average(scores)
    models = list(scores)
    is_comparable = all(own.same_pieces for own in counts.values())
    changes = changes_of(scores, models[-1], is_comparable)
    content = {
        **settings,
        "same_pieces": is_comparable,
        "texts": {language: asdict(own) for language, own in counts.items()},
        "scores": {
            model: {language: numbers_of(score) for language, score in own.items()} for model, own in scores.items()
        },
        "changes": changes,
    }
    heading = f"Masked words of {settings['model']}"
    measured = measured_of(scores)
    tables = [*(table_of(metric, scores, changes) for metric in measured), table_of_texts(counts)]
    draw(output, scores, measured, is_comparable)
    write_results(output, NAME, heading, content, tables, flat_table(scores))


def measured_of(scores: Scores) -> list[str]:
    """The metrics that any text has: without lines for them, there are no pseudo-likelihoods."""
    numbers = [asdict(score) for own in scores.values() for score in own.values()]
    return [metric for metric in METRICS if not all(math.isnan(own[metric]) for own in numbers)]


def table_of(metric: str, scores: Scores, changes: Changes) -> Table:
    """A metric by language: before, after, and the differences."""
    own_metric = METRICS[metric]
    *befores, after = scores
    names = [*befores, after, *(f"{after} − {before}" for before in befores)]
    columns = [Column("language"), *(Column(name, own_metric.is_percent, own_metric.decimals) for name in names)]
    rows: list[list[Cell]] = [
        [
            language,
            *(asdict(own[language])[metric] for own in scores.values()),
            *(changes[before][language][metric] for before in befores),
        ]
        for language in scores[after]
    ]
    return Table(own_metric.title, columns, rows)


def table_of_texts(counts: Mapping[str, Counts]) -> Table:
    """What the texts have, and what was left out of them."""
    columns = [Column(name) for name in ("language", "lines", "too long", "words", "unknown words")]
    return Table(
        "Texts",
        columns,
        [[language, own.lines, own.too_long, own.words, own.unknown] for language, own in counts.items()],
    )


def flat_table(scores: Scores) -> Table:
    """A row for each model and language."""
    rows: list[list[Cell]] = [
        [model, language, *asdict(score).values()] for model, own in scores.items() for language, score in own.items()
    ]
    return Table("Scores", [Column(name) for name in ("model", "language", *METRICS)], rows)


def numbers_of(score: Score) -> dict[str, float | None]:
    """The scores as JSON has them."""
    return {name: number_or_none(value) for name, value in asdict(score).items()}


def draw(output: Path, scores: Scores, measured: Sequence[str], is_comparable: bool) -> None:
    """Draw the losses, accuracies and likelihoods `measured` by language, of pieces where all models have the same."""
    shown = (
        ("loss", "word_accuracy", "pseudo_perplexity")
        if is_comparable
        else ("bits_per_character", "word_accuracy", "pseudo_bits_per_character")
    )
    panels = {}
    for metric in (metric for metric in shown if metric in measured):
        title, is_percent = METRICS[metric].title, METRICS[metric].is_percent
        factor = 100 if is_percent else 1
        panels[f"{title}, %" if is_percent else title] = [
            Bars(model, list(own), [factor * asdict(score)[metric] for score in own.values()])
            for model, own in scores.items()
        ]
    draw_bars(output, FIGURE, panels, "masked words by language")
