"""Answers found in contexts, translated ones included."""

from __future__ import annotations

import pytest

from finetune.understanding.rows.answer_spans import AnswerCounts, locate, locate_answers
from finetune.understanding.tasks.examples import Answer, Question


@pytest.mark.parametrize(
    ("context", "answer", "expected"),
    [
        ("北京是中国的首都", Answer("首都", 6), Answer("首都", 6)),
        ("北京是中国的首都", Answer("首都", 2), Answer("首都", 6)),  # elsewhere
        ("x red y red z red", Answer("red", 9), Answer("red", 8)),  # the nearest of three
        ("x red y red z red", Answer("red", -1), Answer("red", 2)),  # no start given: the first
        ("der Rote Platz", Answer("rote\u00a0platz", 0), Answer("Rote Platz", 4)),  # capitals, white space
        ("İSTANBUL büyük", Answer("büyük", 0), Answer("büyük", 9)),  # lower() would make İ two characters
        ("القاهرة عاصمة مصر", Answer(" مصر ", 0), Answer("مصر", 14)),
        ("กรุงเทพเป็นเมืองหลวง", Answer("เมืองหลวง", 3), Answer("เมืองหลวง", 11)),
        ("one two", Answer("three", 0), None),
        ("one two", Answer(" ", 3), None),
        ("a+b (c)", Answer("(C)", 0), Answer("(c)", 4)),  # no regular expression
    ],
)
def test_an_answer_is_located(context: str, answer: Answer, expected: Answer | None) -> None:
    assert locate(answer, context) == expected


def test_located_answers_and_dropped_questions_are_counted() -> None:
    questions = [
        Question("1", "?", "a red house", (Answer("red", 2), Answer("RED", 0)), "en"),
        Question("2", "?", "a red house", (Answer("blue", 2),), "en"),
        Question("3", "?", "a red house", (), "en"),
    ]
    located = [locate_answers(question) for question in questions]
    (kept,) = [one.question for one in located if one.question is not None]
    assert kept.answers == (Answer("red", 2), Answer("red", 2))
    counts = sum((one.counts for one in located), AnswerCounts())
    assert counts == AnswerCounts(in_place=1, moved=1, missing=1, dropped_questions=2)
    assert "1 not found; 2 questions dropped" in str(counts)
