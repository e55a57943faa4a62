"""Questions in the JSON form of SQuAD v1.1: SQuAD, XQuAD, MLQA, TyDiQA-GoldP."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data_tools.text_lines import open_text
from finetune.xtreme.examples import Answer, Question
from finetune.xtreme.tasks import DEV_SHARE, Split

NO_START = -1  # of an answer whose place nobody says


def questions_of_file(path: Path, language: str) -> Iterator[Question]:
    """The questions of a file, with the answers as they stand there; raises ValueError if it has another form."""
    with open_text(path) as lines:
        text = "\n".join(lines)
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
                answers = tuple(
                    Answer(answer["text"], int(answer.get("answer_start", NO_START)))
                    for answer in item.get("answers", ())
                )
                yield Question(str(item["id"]), item["question"], context, answers, language)


def held_out(questions: Iterable[Question], split: Split) -> Iterator[Question]:
    """Of a training set, what is dev or train, by a hash of the context: see `Task.dev_from_train`.

    A question about a text goes where all others about it go, in whatever file and order they stand.
    """
    for question in questions:
        is_dev = zlib.crc32(question.context.encode("utf-8")) % DEV_SHARE == 0
        if is_dev == (split is Split.DEV):
            yield question
