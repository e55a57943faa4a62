"""The files of a split, below a root directory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from data_tools.files.formats import COMPRESSED_SUFFIXES
from finetune.understanding.tasks.task import TRAINING, FilePlace, Split, Task

T = TypeVar("T")
OF_LANGUAGE = ("{language}", "{code}")  # one of them in a name that tells a language
BY_LANGUAGE = (*OF_LANGUAGE, "{side}")  # and in the names of pairs of files


@dataclass(frozen=True)
class FoundFile:
    """The file of a split, those whose rows follow, the form of all, and the file of labels that are apart.

    `labels` is None where there is no such file, as in tests whose labels are hidden.
    """

    path: Path
    further: Sequence[Path]
    place: FilePlace
    labels: Path | None = None


def find_file(task: Task, split: Split, language: str, root: Path, side: str = "") -> FoundFile:
    """The file of a split in a language, plain or compressed; `side`, for retrieval, is a language, en or gold.

    Raises ValueError that names the task, the language and the files that were looked for.
    """
    places = candidates(task, split, language)
    if not places:
        raise ValueError(f"{task.name} has no {split} split in {language!r}")
    names = [name_of(place, task, language, side) for place in places]
    for place, name in zip(places, names, strict=True):
        path = existing(root / name)
        further = [existing(root / pattern_filled(one, task, language, side)) for one in place.further]
        if path is not None:
            if None in further:
                raise ValueError(
                    f"{root}: has {name}, but not {place.further[further.index(None)]}, which belongs to it"
                )
            of_labels = place.labels
            labels = None if of_labels is None else existing(root / name_of(of_labels, task, language, side))
            return FoundFile(path, [one for one in further if one is not None], place, labels)
    raise ValueError(
        f"{root}: no {split} file of {task.name} for the language {language!r}; looked for {' and '.join(names)}"
    )


def has_file(task: Task, split: Split, language: str, root: Path) -> bool:
    """Whether the split exists in a language; no file is opened."""
    names = (name_of(place, task, language, side=language) for place in candidates(task, split, language))
    return any(existing(root / name) is not None for name in names)


def name_of(place: FilePlace, task: Task, language: str, side: str = "") -> str:
    """The name of a file below the root."""
    return pattern_filled(place.path, task, language, side)


def pattern_filled(pattern: str, task: Task, language: str, side: str = "") -> str:
    """The name that a pattern gives for a language."""
    return pattern.format(language=language, code=task.code(language), side=side)


def translations_name(split: Split, language: str) -> str:
    """The name of the file in which finetune.understanding.translate writes a split's translations."""
    return f"{split}-{language}.jsonl"


def candidates(task: Task, split: Split, language: str) -> list[FilePlace]:
    """The places where a split's file may be, in order of preference; none without such a split.

    Translations are from the first training language, so none is into it.
    """
    if split is Split.TRANSLATE_TRAIN and language == task.source_language:
        return []
    return [
        place
        for place in task.files.get(split, ())
        if any(name in place.path for name in BY_LANGUAGE) or task.pool or language == language_alone(task, split)
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
