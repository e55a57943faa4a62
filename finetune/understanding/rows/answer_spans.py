"""The positions of answers in the contexts of training questions, translated ones included."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from finetune.understanding.tasks.examples import Answer, Question


@dataclass(frozen=True)
class AnswerCounts:
    """Numbers of answers found at the start that their file gives, found elsewhere, or not found; dropped questions."""

    in_place: int = 0
    moved: int = 0
    missing: int = 0
    dropped_questions: int = 0

    def __add__(self, other: AnswerCounts) -> AnswerCounts:
        return AnswerCounts(
            in_place=self.in_place + other.in_place,
            moved=self.moved + other.moved,
            missing=self.missing + other.missing,
            dropped_questions=self.dropped_questions + other.dropped_questions,
        )

    def __str__(self) -> str:
        return (
            f"{self.in_place:,} answers where their file says, {self.moved:,} found elsewhere in their context, "
            f"{self.missing:,} not found; {self.dropped_questions:,} questions dropped"
        )


@dataclass(frozen=True)
class LocatedQuestion:
    """A question whose answers all occur in its context at their start, None without any answer; and the counts."""

    question: Question | None
    counts: AnswerCounts


def locate_answers(question: Question) -> LocatedQuestion:
    """The question to train on; an answer that is not at its start (translated text, byte offsets) is searched for."""
    found = [(answer, locate(answer, question.context)) for answer in question.answers]
    answers = tuple(place for _, place in found if place is not None)
    num_in_place = sum(place == answer for answer, place in found)
    counts = AnswerCounts(
        in_place=num_in_place,
        moved=len(answers) - num_in_place,
        missing=len(found) - len(answers),
        dropped_questions=int(not answers),
    )
    return LocatedQuestion(replace(question, answers=answers) if answers else None, counts)


def locate(answer: Answer, context: str) -> Answer | None:
    """The answer as it occurs in the context nearest to its given start; None if it does not occur, or is empty.

    If the exact spelling does not occur, case and white space are ignored: a translator sees the answer on its own, and
    may capitalise it.
    """
    text = answer.text.strip()
    if not text:
        return None
    if answer.start >= 0 and context.startswith(answer.text, answer.start):
        return answer
    words = r"\s+".join(re.escape(word) for word in text.split())
    for pattern in (re.compile(re.escape(text)), re.compile(words, re.IGNORECASE)):
        matches = list(pattern.finditer(context))
        if matches:
            nearest = min(matches, key=lambda match: abs(match.start() - max(answer.start, 0)))
            return Answer(nearest.group(), nearest.start())
    return None
