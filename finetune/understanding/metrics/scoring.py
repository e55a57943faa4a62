"""Scores by head, as the libraries and the scripts of the benchmarks compute them.

Labels and predictions are compared in these forms: a sequence of labels, of sets of labels, or of numbers; of the query
and the grade of each candidate, with a sequence of scores; a sequence of the tags of each sentence; {question id:
accepted answers} with {question id: answer}; a set of (source id, target id); a sequence of numbers of choices or rows
as text; {query id: candidate ids}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from finetune.understanding.metrics import answers, choices, label_sets, labels, numbers, pairs, pools, ranking, tags
from finetune.understanding.tasks.examples import Example, PooledSet, RetrievalSet
from finetune.understanding.tasks.task import Head, Task

# Of any head; `Form` has those of one.
Gold = (
    labels.Labels
    | label_sets.LabelSets
    | numbers.Numbers
    | ranking.Grades
    | tags.Tags
    | answers.GoldAnswers
    | pairs.Pairs
    | pools.Found
)
Predictions = (
    labels.Labels | label_sets.LabelSets | numbers.Numbers | tags.Tags | answers.Answers | pairs.Pairs | pools.Found
)
GoldT = TypeVar("GoldT", bound=Gold)
PredictionsT = TypeVar("PredictionsT", bound=Predictions)
AVERAGE = "avg"


@dataclass(frozen=True, kw_only=True)
class Form(Generic[GoldT, PredictionsT]):
    """The form of a head's labels and predictions: how to compare, read and write them.

    `metrics`: by name, a function that computes a metric, and maybe others with it, in percent.
    """

    metrics: Mapping[str, Callable[[GoldT, PredictionsT, Task, str], Mapping[str, float]]]
    gold_of: Callable[[Any], GoldT]  # from examples, or from a RetrievalSet or PooledSet
    read: Callable[[Path, Task], PredictionsT]
    read_gold: Callable[[Path, Task], GoldT]
    write: Callable[[Path, PredictionsT], None]
    suffix: str = ".tsv"  # of prediction files


FORMS: Mapping[Head, Form[Any, Any]] = {
    Head.SEQUENCE: Form(
        metrics={
            "accuracy": labels.accuracy,
            "f1": labels.positive_f1,
            "macro_f1": labels.macro_f1,
            "matthews": labels.matthews,
        },
        gold_of=labels.gold_labels,
        read=labels.read_labels,
        read_gold=labels.read_gold_labels,
        write=labels.write_labels,
    ),
    Head.MULTILABEL: Form(
        metrics={
            "micro_f1": label_sets.micro_f1,
            "macro_f1": label_sets.macro_f1,
            "exact_match": label_sets.exact_match,
        },
        gold_of=label_sets.gold_label_sets,
        read=label_sets.read_label_sets,
        read_gold=label_sets.read_gold_label_sets,
        write=label_sets.write_label_sets,
    ),
    Head.REGRESSION: Form(
        metrics={"pearson": numbers.pearson, "spearman": numbers.spearman},
        gold_of=numbers.gold_numbers,
        read=numbers.read_numbers,
        read_gold=numbers.read_gold_numbers,
        write=numbers.write_numbers,
    ),
    Head.CONTEXT_WORD: Form(
        metrics={"accuracy": labels.accuracy, "f1": labels.positive_f1, "macro_f1": labels.macro_f1},
        gold_of=labels.gold_labels,
        read=labels.read_labels,
        read_gold=labels.read_gold_labels,
        write=labels.write_labels,
    ),
    Head.RANKING: Form(
        metrics={"ndcg": ranking.ndcg, "map": ranking.mean_average_precision},
        gold_of=ranking.gold_grades,
        read=numbers.read_numbers,
        read_gold=ranking.read_gold_grades,
        write=numbers.write_numbers,
    ),
    Head.CHOICE: Form(
        metrics={"accuracy": labels.accuracy},
        gold_of=labels.gold_labels,
        read=choices.read_choices,
        read_gold=choices.read_choices,
        write=choices.write_choices,
        suffix=".jsonl",
    ),
    Head.TOKEN: Form(
        metrics={
            **dict.fromkeys(("f1", "precision", "recall"), tags.chunk_scores),
            "accuracy": tags.word_accuracy,
        },
        gold_of=tags.gold_tags,
        read=tags.read_tags,
        read_gold=tags.read_gold_tags,
        write=tags.write_tags,
    ),
    Head.SPAN: Form(
        metrics=dict.fromkeys(("exact_match", "f1"), answers.score_answers),
        gold_of=answers.gold_answers,
        read=answers.read_answers,
        read_gold=answers.read_gold_answers,
        write=answers.write_answers,
        suffix=".json",
    ),
    Head.MINING: Form(
        metrics=dict.fromkeys(("f1", "precision", "recall"), pairs.score_pairs),
        gold_of=pairs.gold_pairs,
        read=pairs.read_predicted_pairs,
        read_gold=pairs.read_gold_pair_file,
        write=pairs.write_pairs,
    ),
    Head.SEARCH: Form(
        metrics={"accuracy": labels.accuracy},
        gold_of=labels.gold_rows,
        read=labels.read_rows,
        read_gold=labels.read_rows,
        write=labels.write_rows,
    ),
}
# Of Head.SEARCH in one pool of all languages: see `Task.pool`.
POOL_FORM: Form[pools.Found, pools.Found] = Form(
    metrics={"map_at_20": pools.map_at_20, "map": pools.full_map, "mrr_at_20": pools.mrr_at_20},
    gold_of=pools.gold_targets,
    read=pools.read_found,
    read_gold=pools.read_targets,
    write=pools.write_found,
    suffix=".json",
)


def form_of(task: Task) -> Form[Any, Any]:
    """The form of a task's labels and predictions."""
    return POOL_FORM if task.pool else FORMS[task.head]


def score(task: Task, gold: Gold, predicted: Predictions, language: str) -> dict[str, float]:
    """{metric: percent} of one language, with the metrics of the task in its order.

    Raises ValueError for unequal numbers of rows, and for whatever else the functions of the task's head refuse.
    """
    form = form_of(task)
    found: dict[str, float] = {}
    for metric in task.metrics:
        if metric not in found:
            found |= form.metrics[metric](gold, predicted, task, language)
    return {metric: found[metric] for metric in task.metrics}


def gold_of(task: Task, examples: Iterable[Example] | RetrievalSet | PooledSet) -> Gold:
    """The labels that `score` takes, from examples of the task."""
    return form_of(task).gold_of(examples)


def average(task: Task, by_language: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """{metric: mean over the languages}."""
    return {
        metric: sum(scores[metric] for scores in by_language.values()) / len(by_language) for metric in task.metrics
    }


def task_score(task: Task, averages: Mapping[str, float]) -> float:
    """The score of a task, from the averages of its metrics: the mean of its main metrics."""
    return sum(averages[metric] for metric in task.main_metrics) / len(task.main_metrics)
