"""Tests that are the dev sets themselves, as those of GLUE are, whose own labels are hidden."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from finetune.understanding.readers.files import find_file
from finetune.understanding.readers.languages import languages_with
from finetune.understanding.readers.roots import Root, is_hub
from finetune.understanding.tasks.task import Split, Task


def languages_tested_on_dev(task: Task, root: Root) -> list[str]:
    """The languages in which dev and test are the same files or the same split of the hub; no file is opened."""
    if task.dev_from_train:
        return []
    tested = languages_with(task, Split.TEST, root)
    both = (language for language in languages_with(task, Split.DEV, root) if language in tested)
    return [
        language
        for language in both
        if place_of(task, Split.DEV, language, root) == place_of(task, Split.TEST, language, root)
    ]


def place_of(task: Task, split: Split, language: str, root: Root) -> Sequence[object]:
    """The place that the examples of a split in a language are read from, equal for equal examples."""
    if is_hub(str(root)):
        place = task.hub[split]
        return place.config, place.split, place.language_column, place.id_prefix
    found = find_file(task, split, language, Path(root))
    return [path.resolve() for path in (found.path, *found.further)]
