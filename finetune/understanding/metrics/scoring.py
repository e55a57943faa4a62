"""Scores as XTREME's `evaluate.py` computes them, by head.

Labels and predictions are compared in these forms: a sequence of labels; a sequence of the tags of each sentence;
{question id: accepted answers} with {question id: answer}; a set of (source id, target id); a sequence of row numbers
as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from finetune.understanding.metrics.answers import (
    Answers,
    GoldAnswers,
    gold_answers,
    read_answers,
    read_gold_answers,
    score_answers,
    write_answers,
)
from finetune.understanding.metrics.labels import (
    Labels,
    gold_labels,
    gold_rows,
    read_gold_labels,
    read_labels,
    read_rows,
    score_labels,
    write_labels,
    write_rows,
)
from finetune.understanding.metrics.pairs import (
    Pairs,
    gold_pairs,
    read_gold_pair_file,
    read_predicted_pairs,
    score_pairs,
    write_pairs,
)
from finetune.understanding.metrics.tags import Tags, gold_tags, read_gold_tags, read_tags, score_tags, write_tags
from finetune.understanding.tasks.examples import Example, RetrievalSet
from finetune.understanding.tasks.task import Head, Task

# Of any head; `Form` has those of one.
Gold = Labels | Tags | GoldAnswers | Pairs
Predictions = Labels | Tags | Answers | Pairs
GoldT = TypeVar("GoldT", bound=Gold)
PredictionsT = TypeVar("PredictionsT", bound=Predictions)
AVERAGE = "avg"


@dataclass(frozen=True, kw_only=True)
class Form(Generic[GoldT, PredictionsT]):
    """The form of a head's labels and predictions: how to compare, read and write them."""

    score: Callable[[GoldT, PredictionsT, Task, str], dict[str, float]]
    gold_of: Callable[[Any], GoldT]  # from examples, or from a RetrievalSet
    read: Callable[[Path, Task], PredictionsT]
    read_gold: Callable[[Path, Task], GoldT]
    write: Callable[[Path, PredictionsT], None]
    suffix: str = ".tsv"  # of prediction files


FORMS: Mapping[Head, Form[Any, Any]] = {
    Head.SEQUENCE: Form(
        score=score_labels, gold_of=gold_labels, read=read_labels, read_gold=read_gold_labels, write=write_labels
    ),
    Head.TOKEN: Form(score=score_tags, gold_of=gold_tags, read=read_tags, read_gold=read_gold_tags, write=write_tags),
    Head.SPAN: Form(
        score=score_answers,
        gold_of=gold_answers,
        read=read_answers,
        read_gold=read_gold_answers,
        write=write_answers,
        suffix=".json",
    ),
    Head.MINING: Form(
        score=score_pairs,
        gold_of=gold_pairs,
        read=read_predicted_pairs,
        read_gold=read_gold_pair_file,
        write=write_pairs,
    ),
    Head.SEARCH: Form(score=score_labels, gold_of=gold_rows, read=read_rows, read_gold=read_rows, write=write_rows),
}


def score(task: Task, gold: Gold, predicted: Predictions, language: str) -> dict[str, float]:
    """{metric: percent} of one language, with the metrics of the task.

    Raises ValueError for unequal numbers of rows, and for whatever else the function of the task's head refuses.
    """
    return FORMS[task.head].score(gold, predicted, task, language)


def gold_of(task: Task, examples: Iterable[Example] | RetrievalSet) -> Gold:
    """The labels that `score` takes, from examples of the task."""
    return FORMS[task.head].gold_of(examples)


def average(task: Task, by_language: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """{metric: mean over the languages}."""
    return {
        metric: sum(scores[metric] for scores in by_language.values()) / len(by_language) for metric in task.metrics
    }


def task_score(task: Task, averages: Mapping[str, float]) -> float:
    """The score of a task, from the averages of its metrics: the mean of its main metrics."""
    return sum(averages[metric] for metric in task.main_metrics) / len(task.main_metrics)
