"""Scores on resampled examples, whatever the form of a head's labels and predictions.

An example is what may be drawn again: a labelled text, a sentence of tags, a question, a query with its candidates, a
sentence to translate. Where the score follows from sums over examples, as means and the F1 of chunks do, draws are
scored as sums, all at once; F1 of labels by the table of labels and predictions of each draw; elsewhere the metric
itself is computed on the examples of each draw.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from finetune.understanding.metrics.numbers import Numbers
from finetune.understanding.metrics.ranking import Grades, counted_queries, is_counted, query_score
from finetune.understanding.metrics.scoring import Gold, Predictions, score, task_score
from finetune.understanding.tasks.task import Head, Task

Scorer = Callable[[np.ndarray], np.ndarray]  # (draws, examples) numbers of drawn examples -> (draws,) percent
Key = str | range  # of an example: the id of a question, query or sentence, or its rows
COUNTED = ("f1", "precision", "recall")  # metrics of chunks and pairs
OF_CHUNKS = (Head.TOKEN, Head.MINING)
OF_ONE_LABEL = (Head.SEQUENCE, Head.CONTEXT_WORD)
TOLERANCE = 1e-6  # percent: by which a score from sums may differ from the metric's own


def keys_of(task: Task, gold: Any, predictions: Sequence[Any]) -> list[Key]:
    """The keys of the examples: of pairs, the source sentences in a pair of anybody's; of queries, those that count."""
    if isinstance(gold, Mapping):
        return list(gold)
    if isinstance(gold, Set):
        return sorted({source for source, _ in itertools.chain(gold, *predictions)})
    if task.head is not Head.RANKING:
        return [range(row, row + 1) for row in range(len(gold))]
    return [*counted_queries(gold, task.main_metrics)]


def chosen(task: Task, items: Any, keys: Sequence[Key]) -> Any:
    """Labels or predictions of the examples with these keys, each as often as it is given.

    Ids are replaced by the place among `keys`, since an id counts once. Questions without prediction stay without.
    """
    if isinstance(items, Mapping):
        return {str(place): items[key] for place, key in enumerate(keys) if key in items}
    if isinstance(items, Set):
        by_source = _targets(items)
        return {(str(place), target) for place, key in enumerate(keys) for target in by_source.get(str(key), ())}
    rows = [(place, row) for place, key in enumerate(keys) for row in key]
    if task.head is Head.RANKING and isinstance(items[0], tuple):  # the query and the grade of each candidate
        return [(str(place), items[int(row)][1]) for place, row in rows]
    return [items[int(row)] for _, row in rows]


def _targets(pairs: Set[tuple[str, str]]) -> dict[str, list[str]]:
    """The targets of each source sentence in some pair."""
    by_source: dict[str, list[str]] = {}
    for source, target in pairs:
        by_source.setdefault(source, []).append(target)
    return by_source


@dataclass(frozen=True)
class Scored:
    """Labels and predictions of a test in a language, which can be scored on draws of examples."""

    task: Task
    language: str
    gold: Gold
    predicted: Predictions
    keys: Sequence[Key]

    def score(self) -> float:
        """The score of the task, in percent."""
        return self._on(self.gold, self.predicted)

    @cached_property
    def scorer(self) -> Scorer:
        """The score on each of many draws."""
        for fast in filter(None, (_scorer_by_sums(self), _scorer_by_tables(self))):
            if abs(float(fast(np.arange(len(self.keys))[None])[0]) - self.score()) < TOLERANCE:
                return fast
        return lambda draws: np.array([self._on_draw(draw) for draw in draws])

    def _on_draw(self, draw: np.ndarray) -> float:
        keys = [self.keys[number] for number in draw]
        return self._on(chosen(self.task, self.gold, keys), chosen(self.task, self.predicted, keys))

    def _on(self, gold: Gold, predicted: Predictions) -> float:
        return task_score(self.task, score(self.task, gold, predicted, self.language))


def _scorer_by_sums(scored: Scored) -> Scorer | None:
    """A scorer by sums of counts of chunks, or of shares; None where the score does not follow from them."""
    task, keys = scored.task, scored.keys
    if task.head in OF_CHUNKS and set(task.main_metrics) <= set(COUNTED):
        own, theirs = (_chunks_by_example(items, keys) for items in (scored.gold, scored.predicted))
        counts = np.array([(len(a & b), len(b), len(a)) for a, b in zip(own, theirs, strict=True)], dtype=float)
        return lambda draws: _score_of_chunks(task, counts[draws].sum(-2))
    shares = _shares(scored)
    return None if shares is None else lambda draws: _score_of_shares(shares[draws].sum(-3))


def _untyped(scored: Scored) -> tuple[Any, Any, Any]:
    """Labels, predictions and keys, whose types the head of the task says."""
    return scored.gold, scored.predicted, scored.keys


def _shares(scored: Scored) -> np.ndarray | None:
    """(examples, metrics, 2): what each example adds to the dividend and the divisor of each main metric, in percent.

    None for metrics that are no such means.
    """
    task = scored.task
    gold, predicted, keys = _untyped(scored)
    if isinstance(gold, Mapping):
        alone = ((chosen(task, gold, [key]), chosen(task, predicted, [key])) for key in keys)
        return np.array([[(scored._on(*one), 1.0)] for one in alone])
    if task.head is Head.RANKING:
        metrics = task.main_metrics
        return np.array([[_ranking_share(metric, gold, predicted, key) for metric in metrics] for key in keys])
    if task.main_metrics == ("accuracy",):
        rows = zip(gold, predicted, strict=True)
        if task.head is Head.TOKEN:
            words = [[own == other for own, other in zip(*sentence, strict=True)] for sentence in rows]
            return np.array([[(100.0 * sum(are_equal), len(are_equal))] for are_equal in words])
        return np.array([[(100.0 * (own == other), 1.0)] for own, other in rows])
    return None


def _ranking_share(metric: str, gold: Grades, predicted: Numbers, rows: range) -> tuple[float, float]:
    """What a query adds to the dividend and the divisor of a metric; zeros where it does not count."""
    if not is_counted(metric, gold, rows):
        return 0.0, 0.0
    grades = [gold[row][1] for row in rows]
    return 100 * query_score(metric, grades, [predicted[row] for row in rows]), 1.0


def _scorer_by_tables(scored: Scored) -> Scorer | None:
    """A scorer by the table of labels and predictions of each draw; None for metrics that do not follow from it."""
    task = scored.task
    if task.head not in OF_ONE_LABEL or not set(task.main_metrics) <= OF_TABLES.keys():
        return None
    gold, predicted, _ = _untyped(scored)
    names = sorted({*gold, *predicted})
    numbers = {name: number for number, name in enumerate(names)}
    cells = np.array([numbers[own] * len(names) + numbers[other] for own, other in zip(gold, predicted, strict=True)])
    positive = numbers.get(task.positive_label)

    def score_of(draw: np.ndarray) -> float:
        table = np.bincount(cells[draw], minlength=len(names) ** 2).reshape(len(names), len(names))
        return float(np.mean([OF_TABLES[metric](table, positive) for metric in task.main_metrics]))

    return lambda draws: np.array([score_of(draw) for draw in draws])


def _accuracy(table: np.ndarray, positive: int | None) -> float:
    """Percent of a table of labels by predictions, whose rows are the labels."""
    return 100.0 * float(np.trace(table)) / float(table.sum())


def _f1(table: np.ndarray, positive: int | None) -> float:
    """F1 of the positive label in percent; 0 if it is neither there nor predicted."""
    return 0.0 if positive is None else 100.0 * float(_f1_by_label(table)[positive])


def _macro_f1(table: np.ndarray, positive: int | None) -> float:
    """The mean F1 of the labels that are there or predicted, in percent."""
    return 100.0 * float(_f1_by_label(table)[(table.sum(0) + table.sum(1)) > 0].mean())


def _matthews(table: np.ndarray, positive: int | None) -> float:
    """Matthews' correlation of several labels (Gorodkin, 2004) x 100; 0 if one side has a single label."""
    table = table.astype(float)
    total, gold, predicted = table.sum(), table.sum(1), table.sum(0)
    spread = np.sqrt((total**2 - predicted @ predicted) * (total**2 - gold @ gold))
    return 0.0 if spread == 0 else 100.0 * float((np.trace(table) * total - gold @ predicted) / spread)


def _f1_by_label(table: np.ndarray) -> np.ndarray:
    """F1 of each label, 0 for one that is neither there nor predicted."""
    both = (table.sum(0) + table.sum(1)).astype(float)
    return np.divide(2.0 * np.diag(table), both, out=np.zeros_like(both), where=both > 0)


OF_TABLES: Mapping[str, Callable[[np.ndarray, int | None], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "macro_f1": _macro_f1,
    "matthews": _matthews,
}


def _chunks_by_example(items: Any, keys: Sequence[Key]) -> list[set[object]]:
    """The chunks of each sentence as seqeval finds them, or the pairs of each source sentence."""
    from seqeval.metrics.sequence_labeling import get_entities  # imports scikit-learn: a second

    if isinstance(items, Set):
        by_source = _targets(items)
        return [set(by_source.get(str(key), ())) for key in keys]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*seems not to be NE tag")
        # Behind another sentence, as all but the first are: there, seqeval finds no chunk in X at the beginning.
        return [set(get_entities([["O"], list(tags)])) for tags in items]


def _score_of_chunks(task: Task, sums: np.ndarray) -> np.ndarray:
    """(…) scores in percent from (…, 3) counts of chunks: correct, predicted, and in gold."""
    correct, predicted, gold = np.moveaxis(sums, -1, 0)
    parts = {"precision": (correct, predicted), "recall": (correct, gold), "f1": (2 * correct, predicted + gold)}
    return 100 * np.mean([_quotient(*parts[metric]) for metric in task.main_metrics], axis=0)


def _score_of_shares(sums: np.ndarray) -> np.ndarray:
    """(…) scores in percent from (…, metrics, 2) sums of `_shares`; a metric to which nothing counts is 0."""
    return _quotient(sums[..., 0], sums[..., 1]).mean(-1)


def _quotient(dividend: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    return np.divide(dividend, divisor, out=np.zeros_like(dividend), where=divisor > 0)
