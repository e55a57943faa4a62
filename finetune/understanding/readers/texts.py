"""Examples of one or two texts, and of choices, from records."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from finetune.understanding.readers.labels import known_label, known_labels, number_of
from finetune.understanding.readers.records import Record, choice_field, shown
from finetune.understanding.tasks.examples import Choices, Label, LabelledText
from finetune.understanding.tasks.task import Head, Task

TEXTS = ("text_a", "text_b", "original_a", "original_b")  # fields that may not be translated
RANGE = re.compile(r"(\d+)-(\d+)")


def labelled_text(record: Record, task: Task, language: str, separator: str, takes_empty: bool) -> LabelledText:
    """One or two texts with their label. Raises ValueError for an empty text, unless it `takes_empty` ones.

    Training files, which have empty texts, also have texts that were not translated; these become empty.
    """
    if takes_empty and task.untranslated:
        record = without_untranslated(record, task.untranslated)
    text_a = _text(record, "text_a", takes_empty)
    text_b = _text(record, "text_b", takes_empty) if "text_b" in record.values else None
    original = None
    if "original_a" in record.values:
        original = (record.text("original_a"), record.text("original_b") if "original_b" in record.values else "")
    has_words = task.head is Head.CONTEXT_WORD and all(text.strip() for text in (text_a, text_b or ""))
    return LabelledText(
        text_a,
        text_b,
        label_of(record, task, separator),
        language,
        original,
        words=words_of(record, (text_a, text_b or "")) if has_words else (),
        group=(record.cell("group") or text_a) if task.head is Head.RANKING else "",
        id=record.cell("id") or "",
    )


def without_untranslated(record: Record, untranslated: Collection[str]) -> Record:
    """The record with empty texts in place of those that say that there is no translation: see `Task.untranslated`."""
    missing = {
        field: ""
        for field in TEXTS
        if isinstance(value := record.values.get(field), str) and value.strip() in untranslated
    }
    return Record({**record.values, **missing}, record.where)


def _text(record: Record, field: str, takes_empty: bool) -> str:
    if takes_empty and record.values.get(field) is None:  # Parquet may hold null
        return ""
    text = record.text(field)
    if not takes_empty and not text.strip():
        raise ValueError(f"{record.where}: an empty sentence ({field})")
    return text


def label_of(record: Record, task: Task, separator: str) -> Label | None:
    """The label in the form of the task's head; None where it is missing."""
    if task.head is Head.MULTILABEL and isinstance(record.values.get("label"), list | tuple):
        return known_labels(record.cells("label"), task, record.where)
    cell = record.cell("label")
    if cell is None:
        return None
    if task.head is Head.MULTILABEL:
        return known_labels((part for part in cell.split(separator) if part.strip()), task, record.where)
    if task.head in (Head.REGRESSION, Head.RANKING):
        return number_of(cell, record.where)
    return known_label(cell, task, record.where)


def words_of(record: Record, texts: tuple[str, str]) -> tuple[tuple[int, int], ...]:
    """The characters [start, end) of the word in both texts. Raises ValueError for a word that is not in its text."""
    numbers = RANGE.fullmatch(record.cell("words") or "")
    if numbers is not None:
        return tuple(
            _checked(_numbered(int(number), text), record, text)
            for number, text in zip(numbers.groups(), texts, strict=True)
        )
    return tuple(_checked(_word(record, side), record, text) for side, text in zip("ab", texts, strict=True))


def _numbered(number: int, text: str) -> tuple[int, int]:
    """The characters of a word by its number from 0 between white space; an empty span if there is none."""
    words = list(re.finditer(r"\S+", text))
    return words[number].span() if number < len(words) else (0, 0)


def _word(record: Record, side: str) -> tuple[int, int]:
    """The characters of a word, given by `start` and `end` or by a `range`.

    A word in several parts, such as a separable verb ("3-6,21-24"), is taken from the first part to the last.
    """
    if (place := record.cell(f"range_{side}")) is not None:
        found = [(int(start), int(end)) for start, end in RANGE.findall(place)]
        return (found[0][0], found[-1][1]) if found else (0, 0)
    start, end = (_whole(record.cell(f"{name}_{side}"), record, f"{name}_{side}") for name in ("start", "end"))
    return start, end


def _checked(span: tuple[int, int], record: Record, text: str) -> tuple[int, int]:
    """The span of a word; raises ValueError if it is not within the text."""
    if not 0 <= span[0] < span[1] <= len(text):
        raise ValueError(f"{record.where}: the word at {span[0]}-{span[1]} is not in its text, {shown(text)}")
    return span


def _whole(value: str | None, record: Record, field: str) -> int:
    if value is None or not value.strip().isdecimal():
        raise ValueError(f"{record.where}: {field}: expected a whole number, found {shown(value)}")
    return int(value)


def choices_of(record: Record, task: Task, language: str) -> Choices:
    """A text and its continuations. `phrases` say what a value of the field `question` adds to the text.

    Raises ValueError for an empty text, an unknown question, and a label that is not the number of a choice.
    """
    text = _text(record, "text_a", takes_empty=False)
    if (question := record.cell("question")) is not None:
        phrase = task.phrases.get(question, question) if not task.phrases else task.phrases.get(question)
        if phrase is None:
            raise ValueError(
                f"{record.where}: unknown question {question!r}; {task.name} has {', '.join(task.phrases)}"
            )
        text = f"{text} {phrase}"
    fields = [field for number in range(len(record.values)) if (field := choice_field(number)) in record.values]
    choices: list[Any] = [_text(record, field, takes_empty=False) for field in fields]
    cell = record.cell("label")
    label = None
    if cell is not None:
        label = _whole(task.label_spellings.get(cell, cell), record, "label")
        if label >= len(choices):
            raise ValueError(f"{record.where}: the label {label} is not one of {len(choices)} choices, from 0")
    return Choices(text, tuple(choices), label, language, record.cell("id") or "")
