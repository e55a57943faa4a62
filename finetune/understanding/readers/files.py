"""The files of a split, below a root directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from data_tools.files.formats import COMPRESSED_SUFFIXES
from finetune.understanding.tasks.task import TRAINING, Split, Task

T = TypeVar("T")
BY_LANGUAGE = ("{language}", "{code}")  # one of them in the pattern of files of several languages


def find_file(task: Task, split: Split, language: str, root: Path, side: str = "") -> Path:
    """The file of a split in a language, plain or compressed; `side`, for retrieval, is a language, en or gold.

    Raises ValueError that names the task, the language and the files that were looked for.
    """
    names = candidates(task, split, language, side)
    if not names:
        raise ValueError(f"{task.name} has no {split} split in {language!r}")
    for name in names:
        path = existing(root / name)
        if path is not None:
            return path
    raise ValueError(
        f"{root}: no {split} file of {task.name} for the language {language!r}; looked for {' and '.join(names)}"
    )


def has_file(task: Task, split: Split, language: str, root: Path) -> bool:
    """Whether the split exists in a language; no file is opened."""
    names = candidates(task, split, language, side=language)
    return any(existing(root / name) is not None for name in names)


def candidates(task: Task, split: Split, language: str, side: str) -> list[str]:
    """The names that a split's file may have below the root, in order of preference; none without such a split.

    Translations are from the first training language, so none is into it.
    """
    if split is Split.TRANSLATE_TRAIN and language == task.source_language:
        return []
    patterns = [place.path for place in task.files.get(split, ())]
    return [
        pattern.format(language=language, code=task.code(language), side=side)
        for pattern in patterns
        if any(name in pattern for name in BY_LANGUAGE) or task.pool or language == language_alone(task, split)
    ]


def language_alone(task: Task, split: Split) -> str:
    """The language of a file whose name has none: the first one of training, else the only one of tests."""
    if split in TRAINING or task.source_language in task.languages:
        return task.source_language
    return task.languages[0]


def existing(path: Path) -> Path | None:
    """The file of that name, or with the suffix of a compression; None if there is neither."""
    for suffix in ("", *COMPRESSED_SUFFIXES):
        file = path.with_name(path.name + suffix)
        if file.is_file():
            return file
    return None


def not_empty(examples: Iterable[T], where: object) -> Iterator[T]:
    """The examples as they come; raises ValueError at the end if there was none."""
    num_examples = 0
    for num_examples, example in enumerate(examples, start=1):  # noqa: B007
        yield example
    if not num_examples:
        raise ValueError(f"{where}: empty; expected at least one example")
