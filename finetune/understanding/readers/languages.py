"""The languages in which a task has files, and those that flags and recipes ask for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from data_tools.text.languages import find_language
from finetune.understanding.readers.files import has_file
from finetune.understanding.readers.hub import has_config
from finetune.understanding.readers.roots import Root, is_hub
from finetune.understanding.tasks.task import ENGLISH, Split, Task


def languages_named(names: str, known: Iterable[str]) -> list[str]:
    """The languages of a list such as "de,fr", each once: by any code, and spelt as in `known` where they are known."""
    spelt = list(known)
    written = (name.strip() for name in names.split(","))
    return list(dict.fromkeys(find_language(name, spelt) or name for name in written))


def languages_with(task: Task, split: Split, root: Root) -> tuple[str, ...]:
    """The languages of the task, in its order, that have the split; no file is opened."""
    if is_hub(str(root)):
        return tuple(language for language in task.languages if has_config(task, split, language, str(root)))
    return tuple(language for language in task.languages if has_file(task, split, language, Path(root)))


def translated_languages(task: Task, translated: str, wanted: str) -> list[str]:
    """The languages to read translations of: `wanted`, such as "de,fr", or all that there are.

    Raises ValueError when there is none, or for a language that the task does not have.
    """
    if wanted:
        languages = languages_named(wanted, task.languages)
        if unknown := [language for language in languages if language not in task.languages or language == ENGLISH]:
            raise ValueError(
                f"languages: {task.name} has no translations into {', '.join(unknown)}, only into "
                f"{', '.join(language for language in task.languages if language != ENGLISH)}"
            )
        return languages
    found = [language for language in languages_with(task, Split.TRANSLATE_TRAIN, translated) if language != ENGLISH]
    if not found:
        raise ValueError(f"{translated}: has no translated training text of {task.name} in any language")
    return found


def languages_tested(task: Task, data: str, wanted: str) -> Sequence[str]:
    """The languages to predict, each once: `wanted`, such as "de,fr", or all that have a test.

    Raises ValueError for none, for one that the task does not have, and for one without a test file.
    """
    found = languages_with(task, Split.TEST, data)
    if not found:
        raise ValueError(f"{data}: has no test file of {task.name} in any language")
    languages = languages_named(wanted, task.languages) if wanted else found
    if unknown := [language for language in languages if language not in task.languages]:
        raise ValueError(f"languages: {task.name} has no {', '.join(unknown)}, only {', '.join(task.languages)}")
    if missing := [language for language in languages if language not in found]:
        raise ValueError(f"{data}: has no test file of {task.name} in {', '.join(missing)}")
    return languages
