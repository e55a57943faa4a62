"""What a masked language model knows of a text: losses, accuracies and pseudo-perplexity, of pieces and of characters.

Numbers of pieces depend on how a tokenizer cuts: fewer, longer pieces are harder. Those of words and of characters do
not, where the same words are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Self

import numpy as np

from analysis.masking.lines import MaskableLine
from analysis.masking.masked_lm import Answers, MaskedLM
from analysis.masking.questions import Question, drawn_words, each_piece
from finetune.understanding.rows.encoding import in_blocks

NATS_OF_BIT = math.log(2)


@dataclass
class Sum:
    """Sums over asked pieces, and the characters of their words."""

    nats: float = 0.0
    right: int = 0
    pieces: int = 0
    characters: int = 0

    def add(self, answers: Answers) -> None:
        """Add answers; the characters are counted apart."""
        self.nats += float(answers.nats.sum())
        self.right += int(answers.is_right.sum())
        self.pieces += len(answers.nats)

    @property
    def loss(self) -> float:
        """In nats a piece; NaN without pieces."""
        return self.nats / self.pieces if self.pieces else math.nan

    @property
    def bits_per_character(self) -> float:
        """Bits, NaN without characters."""
        return self.nats / NATS_OF_BIT / self.characters if self.characters else math.nan


@dataclass(frozen=True)
class Score:
    """The scores of a model on a text; NaN where nothing was asked.

    `loss`, `accuracy`, `word_accuracy` and `bits_per_character` are of the drawn words, masked together; the others of
    each piece in turn: `pseudo_perplexity` with all others in sight (Salazar et al., 2020), and
    `pseudo_bits_per_character` without those behind it in its word, whose number and letters would give it away (Kauf
    and Ivanova, 2023).
    """

    loss: float
    accuracy: float
    word_accuracy: float
    bits_per_character: float
    pseudo_perplexity: float
    pseudo_bits_per_character: float

    @classmethod
    def mean(cls, scores: Iterable[Score]) -> Self:
        """The mean of each."""
        columns = zip(*(asdict(score).values() for score in scores), strict=True)
        return cls(*(math.fsum(column) / len(column) for column in columns))


@dataclass
class Scorer:
    """Asks a model about the lines of a text, block by block."""

    model: MaskedLM
    number: int  # of the model among those that the lines were read for
    most_pseudo: int | None  # lines in which each piece is masked in turn; None: all
    drawn: Sum = field(default_factory=Sum, init=False)
    in_turn: Sum = field(default_factory=Sum, init=False)
    left_to_right: Sum = field(default_factory=Sum, init=False)
    words: int = field(default=0, init=False)
    right_words: int = field(default=0, init=False)
    lines: int = field(default=0, init=False)

    def add(self, lines: list[MaskableLine]) -> None:
        """Ask about some lines, the next of the text."""
        self._add_drawn([line for line in lines if line.is_drawn.any()])
        left = len(lines) if self.most_pseudo is None else max(self.most_pseudo - self.lines, 0)
        self._add_in_turn(lines[:left])
        self.lines += len(lines)

    def _add_drawn(self, lines: list[MaskableLine]) -> None:
        if not lines:
            return
        answers = self.model.answers([drawn_words(line, self.number) for line in lines])
        self.drawn.add(answers)
        self.drawn.characters += sum(int(line.characters[line.is_drawn].sum()) for line in lines)
        units = [line.units[self.number] for line in lines]
        asked = [own[line.is_drawn[own]] for line, own in zip(lines, units, strict=True)]
        rows = np.repeat(np.arange(len(asked)), [len(own) for own in asked])
        flat = np.concatenate(asked)
        is_first = np.append(True, (np.diff(flat) != 0) | (np.diff(rows) != 0))
        self.words += int(is_first.sum())
        self.right_words += int(np.logical_and.reduceat(answers.is_right, np.flatnonzero(is_first)).sum())

    def _add_in_turn(self, lines: list[MaskableLine]) -> None:
        for questions in in_blocks(self._each_piece(lines, with_rest_of_word=False)):
            answers = self.model.answers(questions)
            self.in_turn.add(answers)
            is_last = np.array([question.ends_word for question in questions])
            self.left_to_right.add(Answers(answers.nats[is_last], answers.is_right[is_last]))
        for questions in in_blocks(self._each_piece(lines, with_rest_of_word=True)):
            self.left_to_right.add(self.model.answers(questions))
        self.left_to_right.characters += sum(int(line.characters[line.is_asked].sum()) for line in lines)

    def _each_piece(self, lines: list[MaskableLine], with_rest_of_word: bool) -> Iterator[Question]:
        for line in lines:
            yield from each_piece(line, self.number, with_rest_of_word)

    def score(self) -> Score:
        """The scores of all lines so far."""
        return Score(
            self.drawn.loss,
            self.drawn.right / self.drawn.pieces if self.drawn.pieces else math.nan,
            self.right_words / self.words if self.words else math.nan,
            self.drawn.bits_per_character,
            math.exp(self.in_turn.loss),
            self.left_to_right.bits_per_character,
        )
