"""Scores of the tasks as XTREME's `evaluate.py` computes them, and the files that hold predictions and labels.

What is scored, by head: a sequence of labels; a sequence of sentences' tags; {question id: answer} against
{question id: accepted answers}; a set of (source id, target id); a sequence of row numbers as text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from data_tools.files.atomic import atomic_path
from finetune.understanding.metrics.answers import (
    gold_answers,
    read_answers,
    read_gold_answers,
    score_answers,
    write_answers,
)
from finetune.understanding.metrics.labels import (
    gold_labels,
    gold_rows,
    read_gold_labels,
    read_labels,
    read_rows,
    score_labels,
    write_labels,
    write_rows,
)
from finetune.understanding.metrics.pairs import gold_pairs, read_found_pairs, read_gold_file, score_pairs, write_pairs
from finetune.understanding.metrics.tags import gold_tags, read_gold_tags, read_tags, score_tags, write_tags
from finetune.understanding.readers import Root, read, read_retrieval
from finetune.understanding.readers.files import existing, has_file
from finetune.understanding.readers.hub import has_config, is_hub
from finetune.understanding.tasks.examples import HiddenLabelsError, wrong_labels_of
from finetune.understanding.tasks.table import Head, Split, Task

Gold = TypeVar("Gold")
Predicted = TypeVar("Predicted")
AVERAGE = "avg"


@dataclass(frozen=True)
class Form(Generic[Gold, Predicted]):
    """How the labels and the predictions of a head are kept and compared."""

    score: Callable[[Gold, Predicted, Task, str], dict[str, float]]
    gold_of: Callable[[Any], Gold]  # from examples, or from a RetrievalSet
    read: Callable[[Path, Task], Predicted]
    read_gold: Callable[[Path, Task], Gold]
    write: Callable[[Path, Predicted], None]


FORMS: Mapping[Head, Form[Any, Any]] = {
    Head.SEQUENCE: Form(score_labels, gold_labels, read_labels, read_gold_labels, write_labels),
    Head.TOKEN: Form(score_tags, gold_tags, read_tags, read_gold_tags, write_tags),
    Head.SPAN: Form(score_answers, gold_answers, read_answers, read_gold_answers, write_answers),
    Head.MINING: Form(score_pairs, gold_pairs, read_found_pairs, read_gold_file, write_pairs),
    Head.SEARCH: Form(score_labels, gold_rows, read_rows, read_rows, write_rows),
}


def score(task: Task, gold: Any, predicted: Any, language: str) -> dict[str, float]:
    """{metric: percent} of one language, with the metrics of the task.

    Raises ValueError for unequal numbers of rows, and what the heads' own functions say.
    """
    return FORMS[task.head].score(gold, predicted, task, language)


def gold_of(task: Task, examples: Any) -> Any:
    """What `score` compares with, from examples of the task (an iterable, or a RetrievalSet)."""
    return FORMS[task.head].gold_of(examples)


def read_gold(task: Task, language: str, labels: Root) -> Any:
    """The test labels of a language: from `labels/{task}/test-{language}`, or from the data that the readers read.

    Raises HiddenLabelsError where a test is there without its labels, ValueError for what is wrong with files.
    """
    if not is_hub(str(labels)):
        path = existing(prediction_path(Path(labels), task, language))
        if path is not None:
            return FORMS[task.head].read_gold(path, task)
    if task.is_retrieval:
        return gold_of(task, read_retrieval(task, Split.TEST, language, labels))
    examples = list(read(task, Split.TEST, language, labels))
    with wrong_labels_of(f"{labels}: test of {task.name} in {language!r}"):
        return gold_of(task, examples)


def read_shown_gold(task: Task, languages: Iterable[str], labels: Root) -> tuple[dict[str, Any], dict[str, str]]:
    """({language: its labels}, {other language: why its labels are hidden}); raises ValueError for a bad file."""
    gold, hidden = {}, {}
    for language in languages:
        try:
            gold[language] = read_gold(task, language, labels)
        except HiddenLabelsError as error:
            hidden[language] = str(error)
    return gold, hidden


def has_gold(task: Task, language: str, labels: Root) -> bool:
    """Whether `read_gold` finds a file for the language; nothing is opened."""
    if is_hub(str(labels)):
        return has_config(task, Split.TEST, language, str(labels))
    in_label_form = existing(prediction_path(Path(labels), task, language)) is not None
    return in_label_form or has_file(task, Split.TEST, language, Path(labels))


def prediction_path(directory: Path, task: Task, language: str) -> Path:
    """Where XTREME expects the predictions of a test: `{task}/test-{language}.tsv`, or .json for questions."""
    return directory / task.name / f"test-{language}{task.prediction_suffix}"


def read_predictions(task: Task, language: str, directory: Path) -> Any:
    """The predictions of a language, plain or compressed; raises ValueError if there is no such file, or it is bad."""
    path = prediction_path(directory, task, language)
    found = existing(path)
    if found is None:
        raise ValueError(f"{path}: no such file; {task.name} needs predictions for the language {language!r}")
    return FORMS[task.head].read(found, task)


def write_predictions(task: Task, language: str, predicted: Any, directory: Path) -> Path:
    """The path of the file that now holds the predictions of a language, in the form of XTREME."""
    path = prediction_path(directory, task, language)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        FORMS[task.head].write(temporary, predicted)
    return path


def average(task: Task, by_language: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """{metric: mean over the languages}."""
    return {
        metric: sum(scores[metric] for scores in by_language.values()) / len(by_language) for metric in task.metrics
    }


def task_score(task: Task, averages: Mapping[str, float]) -> float:
    """The one number of a task, from its averages: accuracy, F1, or the mean of exact match and F1."""
    return sum(averages[metric] for metric in task.main_metrics) / len(task.main_metrics)
