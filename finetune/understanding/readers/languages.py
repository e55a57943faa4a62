"""The languages in which a task has files, and those that flags and recipes ask for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from data_tools.text.languages import find_language
from finetune.understanding.readers.files import has_file
from finetune.understanding.readers.hub import has_config
from finetune.understanding.readers.roots import Root, is_hub
from finetune.understanding.tasks.task import TRAINING, Split, Task


def languages_named(names: str, known: Iterable[str]) -> list[str]:
    """The languages of a list such as "de,fr", each once: by any code, and spelt as in `known` where they are known."""
    spelt = list(known)
    written = (name.strip() for name in names.split(","))
    return list(dict.fromkeys(find_language(name, spelt) or name for name in written))


def known_languages(task: Task, split: Split) -> tuple[str, ...]:
    """The languages that a split may have: those of the task, and of training also its `train_languages`."""
    others = task.train_languages if split in TRAINING else ()
    return tuple(dict.fromkeys((*task.languages, *others)))


def languages_with(task: Task, split: Split, root: Root) -> tuple[str, ...]:
    """The languages of the task, in its order, that have the split; no file is opened."""
    known = known_languages(task, split)
    if is_hub(str(root)):
        return tuple(language for language in known if has_config(task, split, language, str(root)))
    return tuple(language for language in known if has_file(task, split, language, Path(root)))


def translated_languages(task: Task, translated: str, wanted: str) -> list[str]:
    """The languages to read translations of: `wanted`, such as "de,fr", or all that there are.

    Raises ValueError when there is none, or for a language that the task does not have.
    """
    known = [name for name in known_languages(task, Split.TRANSLATE_TRAIN) if name != task.source_language]
    if wanted:
        languages = languages_named(wanted, (*known, task.source_language))
        if unknown := [language for language in languages if language not in known]:
            raise ValueError(
                f"languages: {task.name} has no translations into {', '.join(unknown)}, only into {', '.join(known)}"
            )
        return languages
    found = languages_with(task, Split.TRANSLATE_TRAIN, translated)
    if languages := [language for language in found if language != task.source_language]:
        return languages
    raise ValueError(f"{translated}: has no translated training text of {task.name} in any language")


def trained_languages(task: Task, data: str, wanted: str) -> list[str]:
    """The languages whose own train files are read: `wanted`, such as "de,fr", or all that have one.

    The source language comes first. Raises ValueError when there is none, and for one that is wanted and has none.
    """
    found = languages_with(task, Split.TRAIN, data)
    if not found:
        raise ValueError(f"{data}: has no train file of {task.name} in any language")
    languages = languages_named(wanted, known_languages(task, Split.TRAIN)) if wanted else list(found)
    if missing := [language for language in languages if language not in found]:
        raise ValueError(f"{data}: has no train file of {task.name} in {', '.join(missing)}")
    return sorted(languages, key=lambda language: language != task.source_language)


def languages_tested(task: Task, data: str, wanted: str, split: Split = Split.TEST) -> Sequence[str]:
    """The languages to predict, each once: `wanted`, such as "de,fr", or all that have the split.

    Raises ValueError for none, for one that the task does not have, and for one without a file.
    """
    found = languages_with(task, split, data)
    if not found:
        raise ValueError(f"{data}: has no {split} file of {task.name} in any language")
    languages = languages_named(wanted, task.languages) if wanted else found
    if unknown := [language for language in languages if language not in task.languages]:
        raise ValueError(f"languages: {task.name} has no {', '.join(unknown)}, only {', '.join(task.languages)}")
    if missing := [language for language in languages if language not in found]:
        raise ValueError(f"{data}: has no {split} file of {task.name} in {', '.join(missing)}")
    return languages
