"""Questions in the JSON form of SQuAD v1.1: SQuAD, XQuAD, MLQA, TyDiQA-GoldP."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_tools.text.lines import read_text
from finetune.understanding.readers.records import Record, shown
from finetune.understanding.tasks.examples import Answer, Question

NO_START = -1  # of an answer whose file does not say where it starts
OCCURRENCE = " ("  # between a repeated id and the number of its occurrence


def records_of_squad(path: Path) -> Iterator[Record]:
    """The questions of a file; raises ValueError that names the file and the question for one of another form."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    try:
        yield from _records(content["data"] if isinstance(content, dict) else content, path)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: not in the form of SQuAD v1.1: data, paragraphs, context and qas with id, question and answers "
            f"({type(error).__name__}: {error})"
        ) from None


def _records(articles: list[dict[str, Any]], path: Path) -> Iterator[Record]:
    for article in articles:
        for paragraph in article["paragraphs"]:
            for item in paragraph["qas"]:
                values = {"question": item["question"], "context": paragraph["context"], "id": item["id"]}
                yield Record({**values, "answers": item.get("answers", [])}, f"{path}: question {item['id']}")


def question_of(record: Record, language: str, number: int) -> Question:
    """The question of a record; `number` is its id where it has none."""
    id = record.cell("id")
    return Question(
        str(number) if id is None else id,
        record.text("question"),
        record.text("context"),
        answers_of(record),
        language,
    )


def answers_of(record: Record) -> tuple[Answer, ...]:
    """The accepted answers, from any usual form.

    That is a list of objects with text and answer_start as in SQuAD's files, an object of two lists as on the hub, or
    texts, with their starts in the field `starts` if they are known. Empty answers are left out: XTREME hides those of
    its tests behind such.
    """
    value: Any = record.values.get("answers")
    if value is None:
        return ()
    starts = record.values.get("starts")
    if isinstance(value, dict):
        value, starts = value.get("text"), value.get("answer_start")
    if isinstance(value, list) and all(isinstance(one, dict) for one in value):
        value, starts = [one.get("text") for one in value], [one.get("answer_start", NO_START) for one in value]
    texts = [value] if isinstance(value, str) else value
    starts = [starts] if isinstance(starts, int | str) else starts
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{record.where}: answers: expected texts, found {shown(value)}")
    if starts is None:
        starts = [NO_START] * len(texts)
    try:
        numbers = [int(start) for start in starts]
        return tuple(Answer(text, start) for text, start in zip(texts, numbers, strict=True) if text.strip())
    except (ValueError, TypeError, OverflowError):
        raise ValueError(
            f"{record.where}: answer_start: expected a number for each answer, found {shown(starts)}"
        ) from None


def questions_of_file(path: Path, language: str) -> Iterator[Question]:
    """The questions of a file in SQuAD's form, with the answers as they are there."""
    for number, record in enumerate(records_of_squad(path)):
        yield question_of(record, language, number)


def with_unique_ids(questions: Iterable[Question]) -> Iterator[Question]:
    """The questions, with the number of its occurrence added to a repeated id, such as `0 (2)`.

    XTREME's script cuts the ids of TyDiQA's training questions to their last part, so that ids repeat.
    """
    seen: Counter[str] = Counter()
    for question in questions:
        seen[question.id] += 1
        number = seen[question.id]
        yield question if number == 1 else replace(question, id=f"{question.id}{OCCURRENCE}{number})")


def with_distinct_ids(questions: Iterable[Question], where: str) -> Iterator[Question]:
    """The questions of a test, whose predictions are known by their ids; raises ValueError for a repeated one."""
    seen: set[str] = set()
    for question in questions:
        if question.id in seen:
            raise ValueError(f"{where}: the question id {question.id!r} is repeated; predictions are known by ids")
        seen.add(question.id)
        yield question
