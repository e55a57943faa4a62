"""The words of a text that are masked: the same stretches of text for models with different tokenizers.

Positions are counted in characters that are no spaces, since some tokenizers count the space before a word to its piece
and others do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import regex

from finetune.understanding.rows.encoding import LocatedPieces

# Unicode's default borders of words (UAX 29). Scripts without spaces, such as Chinese or Thai, have one behind each
# character.
WORD = regex.compile(r"(?wV1)\b\S+?\b")


@dataclass(frozen=True)
class Units:
    """The units of a line: its words, joined where a tokenizer has a piece that is of both.

    `first_words` (U,) are the numbers of their first words, `characters` (U,) their lengths, and `of_pieces` has for
    each tokenizer the number of each piece's unit, int64, ascending.
    """

    first_words: np.ndarray
    characters: np.ndarray
    of_pieces: Sequence[np.ndarray]

    def __len__(self) -> int:
        return len(self.characters)


def units_of(text: str, located: Sequence[LocatedPieces]) -> Units:
    """The units of a text, of which each tokenizer has found the pieces."""
    is_character = np.fromiter((not character.isspace() for character in text), bool, len(text))
    position = np.concatenate([[0], np.cumsum(is_character)])  # of each character, without spaces
    words = np.unique(position[[0, *(match.start() for match in WORD.finditer(text))]])
    starts = [position[pieces.starts] for pieces in located]
    ends = [position[pieces.ends] for pieces in located]
    is_border = np.ones(len(words), dtype=bool)
    for own_starts, own_ends in zip(starts, ends, strict=True):
        is_border &= ~is_crossed(words, own_starts, own_ends)
    borders = words[is_border]
    return Units(
        np.flatnonzero(is_border),
        np.diff(borders, append=position[-1]),
        [np.searchsorted(borders, own, side="right") - 1 for own in starts],
    )


def is_crossed(places: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whether a piece [start, end) begins before and ends behind each place, bool (places,); pieces are in order."""
    before = np.searchsorted(starts, places, side="left") - 1  # the last piece that begins before
    return (before >= 0) & (np.append(ends, 0)[before] > places)
