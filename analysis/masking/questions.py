"""Rows in which some pieces are masked, and the pieces that are asked for there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.masking.lines import MaskableLine
from finetune.understanding.rows.framing import Frame
from finetune.understanding.rows.token_rows import TokenRows
from veco.labels import IGNORED

LABELS = "labels"
PLACES = "places"  # the number of each asked piece among all of a block, which comes along in a batch as a target does


@dataclass(frozen=True)
class Question:
    """A line in which the pieces `masked` are replaced by the mask, and `asked` of these are to be predicted."""

    pieces: np.ndarray  # (pieces,) ids
    masked: np.ndarray  # bool (pieces,)
    asked: np.ndarray  # bool (pieces,)
    ends_word: bool = False  # whether a single asked piece is the last of its word


def drawn_words(line: MaskableLine, model: int) -> Question:
    """All drawn words of a line at once, as in masked language modelling."""
    is_drawn = line.is_drawn[line.units[model]]
    return Question(line.pieces[model], is_drawn, is_drawn)


def each_piece(line: MaskableLine, model: int, with_rest_of_word: bool) -> Iterator[Question]:
    """Each piece in turn (Salazar et al., 2020); or with those behind it in its word (Kauf and Ivanova, 2023).

    The latter are asked only where there are such pieces: at the end of a word both questions are the same.
    """
    pieces, units = line.pieces[model], line.units[model]
    ends_word = np.append(units[1:] != units[:-1], True)
    places = np.arange(len(units))
    for place in np.flatnonzero(line.is_asked[units]):
        asked = places == place
        if not with_rest_of_word:
            yield Question(pieces, asked, asked, bool(ends_word[place]))
        elif not ends_word[place]:
            yield Question(pieces, (places >= place) & (units == units[place]), asked)


def rows_of(questions: Sequence[Question], frame: Frame, mask: int) -> TokenRows:
    """A row for each question; asked pieces have LABELS and PLACES."""
    rows = [frame.row(np.where(question.masked, mask, question.pieces)) for question in questions]
    before = frame.start_of_last()
    labels = [np.full(len(row), IGNORED, dtype=np.int64) for row in rows]
    for question, own in zip(questions, labels, strict=True):
        own[before : before + len(question.pieces)][question.asked] = question.pieces[question.asked]
    flat = np.concatenate(labels)
    is_asked = flat != IGNORED
    places = np.where(is_asked, np.cumsum(is_asked) - 1, IGNORED)
    return TokenRows.of(rows, np.arange(len(rows)), token_targets={LABELS: flat, PLACES: places})
