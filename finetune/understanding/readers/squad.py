"""Questions in the JSON form of SQuAD v1.1: SQuAD, XQuAD, MLQA, TyDiQA-GoldP."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_tools.text.lines import read_text
from finetune.understanding.tasks.examples import Answer, Question
from finetune.understanding.tasks.task import DEV_SHARE, Split

NO_START = -1  # of an answer whose file does not say where it starts
OCCURRENCE = " ("  # between a repeated id and the number of its occurrence


def questions_of_file(path: Path, language: str) -> Iterator[Question]:
    """The questions of a file, with the answers as they are there; raises ValueError for a file of another form."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    try:
        yield from _questions(content["data"] if isinstance(content, dict) else content, language)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: not in the form of SQuAD v1.1: data, paragraphs, context and qas with id, question and answers "
            f"({type(error).__name__}: {error})"
        ) from None


def _questions(articles: list[dict[str, Any]], language: str) -> Iterator[Question]:
    for article in articles:
        for paragraph in article["paragraphs"]:
            context = paragraph["context"]
            for item in paragraph["qas"]:
                answers = known_answers(
                    (answer["text"], int(answer.get("answer_start", NO_START))) for answer in item.get("answers", ())
                )
                yield Question(str(item["id"]), item["question"], context, answers, language)


def known_answers(answers: Iterable[tuple[str, int]]) -> tuple[Answer, ...]:
    """The answers (text, start) that are not empty: XTREME hides those of its tests behind empty ones."""
    return tuple(Answer(text, start) for text, start in answers if text.strip())


def with_unique_ids(questions: Iterable[Question]) -> Iterator[Question]:
    """The questions, with the number of its occurrence added to a repeated id, such as `0 (2)`.

    XTREME's script cuts the ids of TyDiQA's training questions to their last part, so that ids repeat.
    """
    seen: Counter[str] = Counter()
    for question in questions:
        seen[question.id] += 1
        number = seen[question.id]
        yield question if number == 1 else replace(question, id=f"{question.id}{OCCURRENCE}{number})")


def held_out(questions: Iterable[Question], split: Split) -> Iterator[Question]:
    """The dev or train part of a training set, by a hash of the context: see `Task.dev_from_train`.

    All questions about a text are in the same part, whatever their file and order.
    """
    for question in questions:
        is_dev = zlib.crc32(question.context.encode("utf-8")) % DEV_SHARE == 0
        if is_dev == (split is Split.DEV):
            yield question
