"""Windows over contexts, answers' places, and the best spans against a hand-worked case and a slow search of all."""

from __future__ import annotations

import itertools
import math
import unicodedata
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.understanding.heads.head import Limits
from finetune.understanding.heads.question_answering import (
    BEHIND_ALL,
    QuestionAnswering,
    best_spans,
    best_window,
    context_windows,
    token_span,
    with_marks,
)
from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.tasks.examples import Answer, Question

CONTEXT = "hund rot baum blau vogel weiss milch grün nacht rot haus blau"


def asked(answer: str, context: str = CONTEXT, start: int | None = None) -> Question:
    place = context.index(answer) if start is None else start
    return Question("q", "wo hund", context, (Answer(answer, place),), "de")


def head_of(max_length: int = 12, stride: int = 3, max_answer_length: int = 30, num_best: int = 5) -> QuestionAnswering:
    limits = Limits(
        max_length=max_length,
        stride=stride,
        max_question_length=4,
        max_answer_length=max_answer_length,
        num_best=num_best,
    )
    return QuestionAnswering(limits)


def test_windows_to_the_number() -> None:
    assert context_windows(10, budget=6, stride=2) == [(0, 6), (2, 8), (4, 10)]
    assert context_windows(6, budget=6, stride=2) == [(0, 6)]
    assert context_windows(7, budget=6, stride=9) == [(0, 6), (6, 7)]
    assert context_windows(0, budget=6, stride=2) == [(0, 0)]
    # Token 3 has three tokens before and two behind it in the first window, one and four in the second.
    assert best_window([(0, 6), (2, 8), (4, 10)], 10).tolist() == [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 30))
def test_windows_cover_every_token(num_tokens: int, budget: int, stride: int) -> None:
    windows = context_windows(num_tokens, budget, stride)
    assert set(itertools.chain.from_iterable(range(*window) for window in windows)) == set(range(num_tokens))
    assert all(stop - start <= budget for start, stop in windows)
    if num_tokens:
        owners = best_window(windows, num_tokens)
        assert all(windows[owner][0] <= token < windows[owner][1] for token, owner in enumerate(owners))


def test_places_of_answers(encoder: TextEncoder) -> None:
    (context,) = encoder.locate([CONTEXT])
    for answer in ("hund", "blau", "vogel weiss milch", "haus blau"):
        span = token_span(context, Answer(answer, CONTEXT.index(answer)))
        assert span is not None
        assert CONTEXT[context.starts[span[0]] : context.ends[span[1]]].strip() == answer
    assert token_span(context, Answer("", len(CONTEXT))) is None


def test_targets_point_at_the_answer_where_a_window_holds_it_and_else_at_the_first_token(encoder: TextEncoder) -> None:
    head, question = head_of(), asked("milch")
    rows = head.encode([question], encoder)
    assert len(rows) == 3 and rows.lengths.max() == 12
    held = 0
    for number in range(len(rows)):
        start, end = (int(rows.row_targets[f"{name}_positions"][number]) for name in ("start", "end"))
        own = slice(rows.tokens.offsets[number], rows.tokens.offsets[number + 1])
        if start:
            held += 1
            first, last = rows.marks["start"][own][start], rows.marks["end"][own][end]
            assert CONTEXT[first:last].strip() == "milch"
        else:
            assert end == 0
    assert 1 <= held < len(rows)
    # Over all windows each token of the context may begin an answer once.
    (context,) = encoder.locate([CONTEXT])
    assert rows.marks["may_start"].sum() == len(context.ids)


def test_a_repeated_window_is_ignored_by_the_loss(encoder: TextEncoder) -> None:
    head = head_of()
    long, short = head.encode([asked("milch")], encoder), head.encode([asked("rot", "hund rot")], encoder)
    batch = PairedRows.paired(long, short, np.array([0])).batch(np.arange(len(long)), 1)
    assert batch["pair_start_positions"].tolist()[1:] == [BEHIND_ALL] * (len(long) - 1)


def test_best_spans_of_a_hand_worked_case() -> None:
    """Tokens 0 and 1 are the question; 5 may not begin an answer; at most three tokens.

    Starts 2: 1, 3: 4, 4: -1; ends 2: 0, 3: 1, 4: 2, 5: 5 and 6: 9. From 3 to 5 is 9 and the best; 3 to 6 would be 13
    but has four tokens, 0 to 6 is not in the context, 5 to 6 is 10 + 9 but begins in another window. Then 4 to 6 with
    8, 3 to 4 with 6, 3 to 3 with 5; the next are 4 to 5 and 6 to 6 with 4. No two of the four are equal.
    """
    starts = torch.tensor([[99.0, 50, 1, 4, -1, 10, -5]])
    ends = torch.tensor([[99.0, 50, 0, 1, 2, 5, 9]])
    may_start = torch.tensor([[False, False, True, True, True, False, True]])
    in_context = torch.tensor([[False, False, True, True, True, True, True]])
    scores, first, last = best_spans(starts, ends, may_start, in_context, max_length=3, count=4)
    assert scores.tolist() == [[9, 8, 6, 5]]
    assert (first.tolist(), last.tolist()) == ([[3, 4, 3, 3]], [[5, 6, 4, 3]])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 15), st.integers(1, 8), st.integers(0, 1000))
def test_best_spans_equal_a_slow_search(num_tokens: int, max_length: int, count: int, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    starts, ends = drawn.normal(size=(2, 2, num_tokens))
    may_start, may_end = drawn.random((2, 2, num_tokens)) < 0.7
    tensors = [torch.tensor(array) for array in (starts, ends, may_start, may_end)]
    scores, first, last = best_spans(*tensors, max_length, count)
    for row in range(2):
        spans = [
            (starts[row, s] + ends[row, e], s, e)
            for s in range(num_tokens)
            for e in range(s, min(s + max_length, num_tokens))
            if may_start[row, s] and may_end[row, e]
        ]
        expected = sorted(spans, reverse=True)[:count]
        found = list(zip(scores[row].tolist(), first[row].tolist(), last[row].tolist(), strict=True))
        assert found[: len(expected)] == [pytest.approx(span) for span in expected]
        assert all(math.isinf(score) for score, _, _ in found[len(expected) :])


def decoded(head: QuestionAnswering, questions: list[Question], encoder: TextEncoder, seed: int):
    """(answers of the head, answers of a slow search of all spans of all windows) to random logits."""
    rows = PairedRows.alone(head.encode(questions, encoder))
    own = rows.x.rows
    numbers = np.random.default_rng(seed).permutation(len(rows))
    width = int(own.lengths.max())
    logits = torch.randn(2, len(rows), width, generator=torch.Generator().manual_seed(seed))
    results = head.results(rows)
    head.store(results, SimpleNamespace(start_logits=logits[0], end_logits=logits[1]), rows, numbers)
    slow: list[list[tuple[float, str]]] = [[] for _ in questions]
    for place, row in enumerate(numbers.tolist()):
        offset, length = own.tokens.offsets[row], own.lengths[row]
        mark = {name: values[offset : offset + length] for name, values in own.marks.items()}
        context = questions[own.examples[row]].context
        for s in range(length):
            for e in range(s, min(s + head.limits.max_answer_length, length)):
                if mark["may_start"][s] and mark["end"][e] >= 0:
                    text = context[mark["start"][s] : mark["end"][e]].strip()
                    slow[own.examples[row]].append((float(logits[0, place, s] + logits[1, place, e]), text))
    return head.best_answers(results, rows, questions), slow


@pytest.mark.parametrize("seed", range(3))
def test_answers_over_all_windows_equal_a_slow_search(encoder: TextEncoder, seed: int) -> None:
    questions = [asked("milch"), asked("rot", "hund rot"), asked("blau", f"{CONTEXT} {CONTEXT}")]
    best, slow = decoded(head_of(max_answer_length=4), questions, encoder, seed)
    for answers, spans in zip(best, slow, strict=True):
        score, text = max(spans)
        assert (answers[0].score, answers[0].text) == (pytest.approx(score, abs=1e-5), text)
        assert [answer.score for answer in answers] == sorted((answer.score for answer in answers), reverse=True)
        assert len({answer.text for answer in answers}) == len(answers) <= 5
        assert sum(answer.probability for answer in answers) == pytest.approx(1)
        first, second = answers[:2]
        assert first.probability / second.probability == pytest.approx(math.exp(first.score - second.score))


@pytest.mark.parametrize("context", ["", " "])
def test_a_context_without_a_token_has_an_empty_answer(context: str, encoder: TextEncoder) -> None:
    question = Question("q", "wo hund", context, (), "de")
    best, _ = decoded(head_of(), [question], encoder, 0)
    assert [answer.text for answer in best[0]] == [""]


def test_questions_are_truncated_and_counted_and_rows_must_hold_context(encoder: TextEncoder) -> None:
    long = Question("q", "wo hund baum vogel milch nacht", CONTEXT, (Answer("rot", 5),), "de")
    rows = head_of().encode([long, asked("rot")], encoder)
    assert rows.truncated == {"questions cut to max_question_length": 1}
    with pytest.raises(ValueError, match="max_length 8 must be at least 9: max_question_length 4, 4 special tokens"):
        head_of(max_length=8).encode([long], encoder)


def test_questions_without_answers_have_no_targets(encoder: TextEncoder) -> None:
    question = Question("q", "wo hund", CONTEXT, (), "de")
    assert not head_of().encode([asked("rot"), question], encoder).row_targets


@pytest.mark.parametrize("answer", ["grün", "blaü", "ü", "क्षि", "ที่"])
def test_decomposed_answers_keep_their_last_accent(encoder: TextEncoder, answer: str) -> None:
    """The tokenizer composes what is decomposed, and says of a piece only where its letter is."""
    written = unicodedata.normalize("NFD", answer)
    context = f"hund {written} baum {written}"
    (pieces,) = encoder.locate([context])
    for start in (5, len(context) - len(written)):
        found = token_span(pieces, Answer(written, start))
        assert found is not None
        first, last = found
        begin, end = with_marks(context, int(pieces.starts[first]), int(pieces.ends[last]))
        assert context[begin:end].strip() == written


def test_marks_belong_to_their_letter() -> None:
    text = "Vie\u0323\u0302t"
    assert with_marks(text, 0, 3) == (0, 5)
    assert with_marks(text, 4, 6) == (2, 6)
    assert with_marks("abc", 1, 2) == (1, 2)
    assert with_marks("", 0, 0) == (0, 0)
