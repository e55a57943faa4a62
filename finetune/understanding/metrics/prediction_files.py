"""Prediction files: `{task}/test-{language}.tsv`, `.json` for questions and pools, or named by a task's own pattern.

Predictions of dev are `{task}/dev-{language}` for all tasks.
"""

from __future__ import annotations

from pathlib import Path

from data_tools.files.atomic import atomic_path
from finetune.understanding.metrics.scoring import Predictions, form_of
from finetune.understanding.readers.files import existing
from finetune.understanding.tasks.task import Split, Task


def prediction_path(directory: Path, task: Task, language: str, split: Split = Split.TEST) -> Path:
    """The file of the predictions for a split in a language, below a directory of predictions."""
    own = task.prediction_file if split is Split.TEST else ""
    pattern = own or f"{{task}}/{split}-{{language}}{form_of(task).suffix}"
    return directory / pattern.format(task=task.name, language=language, code=task.code(language))


def has_predictions(task: Task, directory: Path, split: Split = Split.TEST) -> bool:
    """Whether the directory of the task's prediction files exists or, without one of its own, one of the files."""
    paths = [prediction_path(directory, task, language, split) for language in task.languages]
    parents = {path.parent for path in paths}
    if len(parents) == 1 and directory not in parents:
        return paths[0].parent.is_dir()
    return any(existing(path) is not None for path in paths)


def read_predictions(task: Task, language: str, directory: Path, split: Split = Split.TEST) -> Predictions:
    """The predictions of a language, from a plain or compressed file; raises ValueError for a missing or bad file."""
    path = prediction_path(directory, task, language, split)
    found = existing(path)
    if found is None:
        raise ValueError(f"{path}: no such file; {task.name} needs predictions for the language {language!r}")
    return form_of(task).read(found, task)


def write_predictions(
    task: Task, language: str, predicted: Predictions, directory: Path, split: Split = Split.TEST
) -> Path:
    """Write the predictions of a language; return the path of the file."""
    path = prediction_path(directory, task, language, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        form_of(task).write(temporary, predicted)
    return path
