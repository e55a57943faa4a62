"""Where the answers of training questions stand in their contexts, translated ones included."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from finetune.understanding.tasks.examples import Answer, Question


@dataclass
class AnswerCounts:
    """How many answers stood where their file says, were found elsewhere, or nowhere; and questions left without."""

    in_place: int = 0
    moved: int = 0
    missing: int = 0
    dropped_questions: int = 0

    def __str__(self) -> str:
        return (
            f"{self.in_place:,} answers where their file says, {self.moved:,} found elsewhere in their context, "
            f"{self.missing:,} not found; {self.dropped_questions:,} questions dropped"
        )


def located(questions: Iterable[Question], counts: AnswerCounts) -> Iterator[Question]:
    """Questions to train on: every answer stands in its context at its start, and what was done goes into `counts`.

    An answer that is not at its start (translated text, offsets in bytes) is looked for. A question none of whose
    answers is found is left out.
    """
    for question in questions:
        answers = []
        for answer in question.answers:
            found = locate(answer, question.context)
            if found is None:
                counts.missing += 1
                continue
            counts.in_place += found == answer
            counts.moved += found != answer
            answers.append(found)
        if answers:
            yield replace(question, answers=tuple(answers))
        else:
            counts.dropped_questions += 1


def locate(answer: Answer, context: str) -> Answer | None:
    """The answer as it stands in the context, nearest to its given start; None if it does not occur, or is empty.

    First as it is spelt, then whatever its capitals and white space: a translator meets the answer alone, and may
    begin it with a capital.
    """
    text = answer.text.strip()
    if not text:
        return None
    if answer.start >= 0 and context.startswith(answer.text, answer.start):
        return answer
    words = r"\s+".join(re.escape(word) for word in text.split())
    for pattern in (re.compile(re.escape(text)), re.compile(words, re.IGNORECASE)):
        starts = [match.start() for match in pattern.finditer(context)]
        if starts:
            start = min(starts, key=lambda start: abs(start - max(answer.start, 0)))
            match = pattern.match(context, start)
            assert match is not None, "it was found there"
            return Answer(match.group(), start)
    return None
