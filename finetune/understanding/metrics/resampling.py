"""Scores on resampled examples, whatever the form of a head's labels and predictions.

An example is what may be drawn again: a labelled text, a sentence of tags, a question, a query with its candidates, a
sentence to translate. Where the score follows from sums over examples, as means and the F1 of chunks do, draws are
scored as sums, all at once; elsewhere the metric itself is computed on the examples of each draw.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from finetune.understanding.metrics.ranking import rows_of_queries
from finetune.understanding.metrics.scoring import Gold, Predictions, score, task_score
from finetune.understanding.tasks.task import Head, Task

Key = str | range  # of an example: the id of a question, query or sentence, or its rows
COUNTED = ("f1", "precision", "recall")  # metrics of chunks and pairs
OF_CHUNKS = (Head.TOKEN, Head.MINING)
TOLERANCE = 1e-6  # percent: by which a score from sums may differ from the metric's own


def keys_of(task: Task, gold: Any, predictions: Sequence[Any]) -> list[Key]:
    """The keys of the examples: of pairs, the source sentences that are in a pair of anybody's."""
    if isinstance(gold, Mapping):
        return list(gold)
    if isinstance(gold, Set):
        return sorted({source for source, _ in itertools.chain(gold, *predictions)})
    if task.head is not Head.RANKING:
        return [range(row, row + 1) for row in range(len(gold))]
    return list(rows_of_queries(gold))


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
    def scorer(self) -> Callable[[np.ndarray], np.ndarray]:
        """Maps (draws, examples) numbers of drawn examples to (draws,) scores in percent."""
        values = _summed_values(self)
        if values is not None:
            whole = float(_score_of_sums(self.task, values.sum(0), len(values)))
            if abs(whole - self.score()) < TOLERANCE:
                return lambda draws: _score_of_sums(self.task, values[draws].sum(-2), draws.shape[-1])
        return lambda draws: np.array([self._on_draw(draw) for draw in draws])

    def _on_draw(self, draw: np.ndarray) -> float:
        keys = [self.keys[number] for number in draw]
        return self._on(chosen(self.task, self.gold, keys), chosen(self.task, self.predicted, keys))

    def _on(self, gold: Gold, predicted: Predictions) -> float:
        return task_score(self.task, score(self.task, gold, predicted, self.language))


def _summed_values(scored: Scored) -> np.ndarray | None:
    """The (examples, values) whose sums may give the score; None for a metric that does not follow from sums.

    A value is the score of a single example; the three values of chunks are counts: correct, predicted, and in gold.
    """
    task, keys = scored.task, scored.keys
    if task.head in OF_CHUNKS and set(task.main_metrics) <= set(COUNTED):
        own, theirs = (_chunks_by_example(items, keys) for items in (scored.gold, scored.predicted))
        counts = [(len(a & b), len(b), len(a)) for a, b in zip(own, theirs, strict=True)]
        return np.array(counts, dtype=float)
    if isinstance(scored.gold, Mapping):
        alone = ((chosen(task, scored.gold, [key]), chosen(task, scored.predicted, [key])) for key in keys)
        return np.array([[scored._on(*one)] for one in alone])
    if task.main_metrics == ("accuracy",) and task.head is not Head.TOKEN:
        equal = (own == theirs for own, theirs in zip(scored.gold, scored.predicted, strict=True))
        return np.array([[100.0 * is_equal] for is_equal in equal])
    return None


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


def _score_of_sums(task: Task, sums: np.ndarray, num_examples: int) -> np.ndarray:
    """(…) scores in percent from (…, values) sums over so many examples, see `_summed_values`."""
    if sums.shape[-1] == 1:
        return sums[..., 0] / num_examples
    correct, predicted, gold = np.moveaxis(sums, -1, 0)
    parts = {"precision": (correct, predicted), "recall": (correct, gold), "f1": (2 * correct, predicted + gold)}
    found = [
        np.divide(*parts[metric], out=np.zeros_like(correct), where=parts[metric][1] > 0)
        for metric in task.main_metrics
    ]
    return 100 * np.mean(found, axis=0)
