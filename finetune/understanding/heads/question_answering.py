"""Answers as spans of a context. `<s> question </s></s> context </s>`, with windows over long contexts.

A window starts every `stride` tokens of the context (XTREME's doc_stride). In training, the span of a window without
the answer is `<s>`. In prediction, the score of a span is the sum of the logits of its first and its last token; a span
may only start in the window with the most context around its first token. That is the rule of BERT's script for SQuAD,
which transformers and XTREME follow; they consider the 20 best starts and ends, here the best spans are exact.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers.utils import ModelOutput

from finetune.understanding.heads.head import Limits
from finetune.understanding.rows.encoding import LocatedPieces, TextEncoder, in_blocks
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.token_rows import TokenRows
from finetune.understanding.tasks.examples import Answer, Question
from training.step import Batch
from veco import VecoForQuestionAnswering
from veco.classification import Labelled, mean_cross_entropy
from veco.labels import IGNORED

NO_PLACE = -1  # in the marks of tokens outside the context
BEHIND_ALL = 1 << 30  # a position that the model ignores, since every row ends before it
LENGTH_BONUS = 0.01  # the weight of a window's length beside the context around a token (BERT's script)


@dataclass(frozen=True)
class ScoredAnswer:
    """A span as text, its score (the sum of two logits), and its probability among the n best (a softmax of scores)."""

    text: str
    score: float
    probability: float


class QuestionAnswering:
    """Rows of questions with windows of their contexts, and answers from the model's outputs."""

    model_class = VecoForQuestionAnswering
    problem_type: str | None = None
    outputs: Sequence[str] = ("start", "end")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def encode(self, examples: Iterable[Question], encoder: TextEncoder) -> TokenRows:
        """The windows of each question, with the position of its first answer unless a question has none.

        Questions of more than `max_question_length` tokens are truncated, and counted. Raises ValueError for rows that
        would be too short for the longest question and a token of the context.
        """
        num_specials = encoder.pair.num_specials
        if self.limits.max_length <= self.limits.max_question_length + num_specials:
            raise ValueError(
                f"max_length {self.limits.max_length} must be at least "
                f"{self.limits.max_question_length + num_specials + 1}: max_question_length "
                f"{self.limits.max_question_length}, {num_specials} special tokens, and one of the context"
            )
        return TokenRows.concatenate([self._encode_block(block, encoder) for block in in_blocks(examples)])

    def _encode_block(self, block: Sequence[Question], encoder: TextEncoder) -> TokenRows:
        questions = encoder.encode([example.question for example in block])
        contexts = encoder.locate([example.context for example in block])
        num_truncated = sum(len(question) > self.limits.max_question_length for question in questions)
        rows, sources, spans, marks = [], [], [], []
        frame = encoder.pair
        for number, (example, question, context) in enumerate(zip(block, questions, contexts, strict=True)):
            question = question[: self.limits.max_question_length]
            first = frame.start_of_last(question)
            budget = self.limits.max_length - len(question) - frame.num_specials
            windows = context_windows(len(context.ids), budget, self.limits.stride)
            owner = best_window(windows, len(context.ids))
            answer = token_span(context, example.answers[0]) if example.answers else None
            for window, (start, stop) in enumerate(windows):
                rows.append(frame.row(question, context.ids[start:stop]))
                sources.append(number)
                spans.append(span_in_window(answer, start, stop, first))
                mark = np.full((3, len(rows[-1])), NO_PLACE)
                of_context = slice(first, first + stop - start)
                mark[:, of_context] = context.starts[start:stop], context.ends[start:stop], owner[start:stop] == window
                marks.append(mark)
        starts, ends, owned = np.concatenate(marks, axis=1)
        positions = np.array(spans, dtype=np.int64).T
        targets = {"start_positions": positions[0], "end_positions": positions[1]}
        return TokenRows.of(
            rows,
            np.array(sources, dtype=np.int64),
            row_targets=targets if all(example.answers for example in block) else {},
            marks={"start": starts.astype(np.int32), "end": ends.astype(np.int32), "may_start": owned == 1},
            truncated=+Counter({"questions cut to max_question_length": num_truncated}),
            ignored=BEHIND_ALL,
        )

    def labelled(self, model: nn.Module, batch: Batch) -> list[Labelled]:
        """The logits and places of the first tokens of answers in x and y, then those of the last tokens."""
        output = model(**{name: tensor for name, tensor in batch.items() if not name.endswith("_positions")})
        return [*labelled_tokens("start", batch, output), *labelled_tokens("end", batch, output)]

    def loss(self, labelled: list[Labelled]) -> Tensor:
        """The mean of the cross-entropies of first and of last tokens, over the answers of x and y.

        Unlike in the model's own loss, and that of transformers, padding is no candidate, so that the loss of a row
        does not depend on its batch.
        """
        half = len(labelled) // 2
        return torch.stack([mean_cross_entropy(part) for part in (labelled[:half], labelled[half:])]).mean()

    def results(self, rows: PairedRows) -> dict[str, np.ndarray]:
        """Zeros for the best spans of each row: scores, and their characters [start, end) in the context."""
        return {name: np.zeros((len(rows), self.limits.num_best)) for name in ("score", "start", "end")}

    def store(self, results: dict[str, np.ndarray], output: ModelOutput, rows: PairedRows, numbers: np.ndarray) -> None:
        """Store the best spans of the batch of rows `numbers`."""
        own, own_rows = rows.x.rows, rows.x.numbers[numbers]
        places = own.places(own_rows)
        is_token = np.arange(output.start_logits.shape[1]) < own.lengths[own_rows][:, None]
        marks = {name: np.full(is_token.shape, NO_PLACE) for name in ("start", "end", "may_start")}
        for name, mark in marks.items():
            mark[is_token] = own.marks[name][places]
        scores, first, last = best_spans(
            output.start_logits.float().cpu(),
            output.end_logits.float().cpu(),
            torch.from_numpy(marks["may_start"] == 1),
            torch.from_numpy(marks["start"] != NO_PLACE),
            self.limits.max_answer_length,
            self.limits.num_best,
        )
        results["score"][numbers] = scores.numpy()
        results["start"][numbers] = np.take_along_axis(marks["start"], first.numpy(), axis=1)
        results["end"][numbers] = np.take_along_axis(marks["end"], last.numpy(), axis=1)

    def predictions(
        self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[Question]
    ) -> dict[str, str]:
        """The best answer to each question, by id; empty for a context without words."""
        best = self.best_answers(results, rows, examples)
        return {example.id: answers[0].text for example, answers in zip(examples, best, strict=True)}

    def best_answers(
        self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[Question]
    ) -> list[list[ScoredAnswer]]:
        """The `num_best` answers to each question over all its windows, best first, without duplicates."""
        bounds = np.searchsorted(rows.x.rows.examples[rows.x.numbers], np.arange(len(examples) + 1))
        return [
            self._ranked(example.context, *(results[name][bounds[i] : bounds[i + 1]].ravel() for name in results))
            for i, example in enumerate(examples)
        ]

    def _ranked(self, context: str, scores: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> list[ScoredAnswer]:
        answers: dict[str, float] = {}
        for i in np.argsort(-scores, kind="stable").tolist():
            if not np.isfinite(scores[i]):  # no span, as in an empty context
                break
            start, end = with_marks(context, int(starts[i]), int(ends[i]))
            text = context[start:end].strip()
            if text and text not in answers:
                answers[text] = float(scores[i])
        if not answers:
            return [ScoredAnswer("", 0.0, 1.0)]
        kept = list(answers.items())[: self.limits.num_best]
        shares = np.exp(np.array([score - kept[0][1] for _, score in kept]))
        shares /= shares.sum()
        return [ScoredAnswer(text, score, float(p)) for (text, score), p in zip(kept, shares, strict=True)]


def with_marks(text: str, start: int, end: int) -> tuple[int, int]:
    """The characters [start, end), extended to the accents and vowel signs of the first and the last letter.

    A tokenizer that composes decomposed text (NFD) reports the letter alone as the place of a piece.
    """
    while start > 0 and unicodedata.category(text[start : start + 1] or " ").startswith("M"):
        start -= 1
    while end < len(text) and unicodedata.category(text[end]).startswith("M"):
        end += 1
    return start, end


def labelled_tokens(end: str, batch: Batch, output: ModelOutput) -> list[Labelled]:
    """The logits and positions of the first ("start") or last ("end") tokens of answers, of x and, plugged in, of y."""
    labelled = []
    for prefix in ("", "pair_") if "pair_attention_mask" in batch else ("",):
        name = f"{prefix}{end}_positions"
        is_token = batch[f"{prefix}attention_mask"].bool()
        positions = batch[name].masked_fill(batch[name] == BEHIND_ALL, IGNORED)
        logits = output[f"{prefix}{end}_logits"].masked_fill(~is_token, -torch.inf)
        labelled.append(Labelled(name, logits, positions))
    return labelled


def context_windows(num_tokens: int, budget: int, stride: int) -> list[tuple[int, int]]:
    """(start, end) of windows of at most `budget` tokens, one every `stride` tokens; together they cover all tokens."""
    step = min(stride, budget)
    starts = range(0, max(1, num_tokens - budget + step), step)
    return [(start, min(start + budget, num_tokens)) for start in starts]


def best_window(windows: Sequence[tuple[int, int]], num_tokens: int) -> np.ndarray:
    """The number of the window with the most context around each token: the smaller of what is left and right of it.

    int64 (num_tokens,). Ties are broken by the window's length, then by order.
    """
    bounds = np.array(windows)
    token = np.arange(num_tokens)
    before, behind = token - bounds[:, :1], bounds[:, 1:] - 1 - token
    shown = np.minimum(before, behind) + LENGTH_BONUS * (bounds[:, 1:] - bounds[:, :1])
    return np.where((before >= 0) & (behind >= 0), shown, -np.inf).argmax(axis=0)


def token_span(context: LocatedPieces, answer: Answer) -> tuple[int, int] | None:
    """(first, last) token that overlaps an answer; None if there is none."""
    first = int(np.searchsorted(context.ends, answer.start, side="right"))
    last = int(np.searchsorted(context.starts, answer.start + len(answer.text), side="left")) - 1
    return (first, last) if first <= last else None


def span_in_window(answer: tuple[int, int] | None, start: int, stop: int, offset: int) -> tuple[int, int]:
    """Positions in the row of a window whose context starts at `offset`; those of `<s>` if it lacks the answer."""
    if answer is None or answer[0] < start or answer[1] >= stop:
        return 0, 0
    return answer[0] - start + offset, answer[1] - start + offset


def best_spans(
    starts_BT: Tensor, ends_BT: Tensor, may_start_BT: Tensor, may_end_BT: Tensor, max_length: int, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(scores, first, last token) of the `count` best spans of each row, (B, count); best first.

    A span has 1 to `max_length` tokens. Where a row has fewer spans the score is -inf.
    """
    starts_BT = starts_BT.masked_fill(~may_start_BT, -torch.inf)
    ends_BT = ends_BT.masked_fill(~may_end_BT, -torch.inf)
    # scores_BTL[b, t, l]: from token t to token t + l
    scores_BTL = starts_BT.unsqueeze(2) + pad(ends_BT, (0, max_length - 1), value=-torch.inf).unfold(1, max_length, 1)
    flat = scores_BTL.flatten(1)
    scores, numbers = flat.topk(min(count, flat.shape[1]), dim=1)
    first, length = numbers // max_length, numbers % max_length
    missing = count - scores.shape[1]
    last = (first + length).clamp(max=starts_BT.shape[1] - 1)  # beyond the row only where the score is -inf
    return pad(scores, (0, missing), value=-torch.inf), pad(first, (0, missing)), pad(last, (0, missing))
