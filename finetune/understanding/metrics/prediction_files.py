"""Prediction files in the layout of XTREME: `{task}/test-{language}.tsv`, or `.json` for questions.

Predictions of dev are `{task}/dev-{language}` in the same form.
"""

from __future__ import annotations

from pathlib import Path

from data_tools.files.atomic import atomic_path
from finetune.understanding.metrics.scoring import FORMS, Predictions
from finetune.understanding.readers.files import existing
from finetune.understanding.tasks.task import Split, Task


def prediction_path(directory: Path, task: Task, language: str, split: Split = Split.TEST) -> Path:
    """The file of the predictions for a split in a language, below a directory of predictions."""
    return directory / task.name / f"{split}-{language}{FORMS[task.head].suffix}"


def read_predictions(task: Task, language: str, directory: Path, split: Split = Split.TEST) -> Predictions:
    """The predictions of a language, from a plain or compressed file; raises ValueError for a missing or bad file."""
    path = prediction_path(directory, task, language, split)
    found = existing(path)
    if found is None:
        raise ValueError(f"{path}: no such file; {task.name} needs predictions for the language {language!r}")
    return FORMS[task.head].read(found, task)


def write_predictions(
    task: Task, language: str, predicted: Predictions, directory: Path, split: Split = Split.TEST
) -> Path:
    """Write the predictions of a language; return the path of the file."""
    path = prediction_path(directory, task, language, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        FORMS[task.head].write(temporary, predicted)
    return path
