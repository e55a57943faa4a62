"""Sums over words of several pieces, worked by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from analysis.masking.lines import MaskableLine
from analysis.masking.masked_lm import Answers
from analysis.masking.questions import Question
from analysis.masking.scores import Score, Scorer


def answers(questions: Sequence[Question]) -> Answers:
    """Pieces under 10 are likeliest, and −log of a piece's probability is its id, plus 100 for each other masked."""
    asked = [question.pieces[question.asked] for question in questions]
    others = [int((question.masked & ~question.asked).sum()) for question in questions]
    nats = np.concatenate([own + 100.0 * more for own, more in zip(asked, others, strict=True)])
    return Answers(nats, np.concatenate(asked) < 10)


# Words of 3, 2, 1 and 2 characters, of which the second is not asked; the first and the last are drawn.
LINE = MaskableLine(
    number=0,
    pieces=[np.array([1, 10, 5, 7, 2, 3])],
    units=[np.array([0, 0, 1, 2, 3, 3])],
    characters=np.array([3, 2, 1, 2]),
    is_asked=np.array([True, False, True, True]),
    is_drawn=np.array([True, False, False, True]),
)


def test_words_pieces_and_characters() -> None:
    scorer = Scorer(SimpleNamespace(answers=answers), 0, most_pseudo=1)
    scorer.add([LINE])
    scorer.add([LINE])  # of which nothing is masked in turn
    score = scorer.score()
    assert score.loss == pytest.approx((1 + 10 + 2 + 3) / 4)
    assert score.accuracy == 3 / 4
    assert score.word_accuracy == 1 / 2
    assert score.bits_per_character == pytest.approx((1 + 10 + 2 + 3) / math.log(2) / (3 + 2))
    assert score.pseudo_perplexity == pytest.approx(math.exp((1 + 10 + 7 + 2 + 3) / 5))
    # The first pieces of both words of two pieces are asked with the second pieces masked, too.
    expected = (101 + 10 + 7 + 102 + 3) / math.log(2) / (3 + 1 + 2)
    assert score.pseudo_bits_per_character == pytest.approx(expected)


def test_nothing_asked_has_no_score() -> None:
    score = Scorer(SimpleNamespace(answers=answers), 0, most_pseudo=0).score()
    assert all(math.isnan(value) for value in vars(score).values())
    assert Score.mean([Score(*range(6)), Score(*range(2, 8))]) == Score(*range(1, 7))
