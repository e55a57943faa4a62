"""What each piece of a vocabulary stands for, by which words and characters are counted."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_tools.tokenizers.unknown_pieces import Unknown

MARKS = ("P", "S", "Z")  # Unicode's punctuation, symbols and separators


@dataclass(frozen=True)
class PieceTable:
    """Properties of the pieces of a vocabulary, for counting words and characters.

    `starts_word` bool (vocabulary,): true for pieces that begin a word, of which a text has as many as words.
    `num_characters` uint16 (vocabulary,): of each piece, without what marks the beginning of a word; 0 for special ids.
    With `is_first_unmarked`, the first word of a sentence does not begin with such a piece, but all others do.
    """

    starts_word: np.ndarray
    num_characters: np.ndarray
    is_first_unmarked: bool = False

    @property
    def vocab_size(self) -> int:
        return len(self.starts_word)

    def num_words(self, ids: np.ndarray, num_sentences: int) -> int:
        """The number of words of sentences whose ids, end to end, are ids (n,)."""
        return int(np.count_nonzero(self.starts_word[ids])) + (num_sentences if self.is_first_unmarked else 0)

    def unknown(self, ids: np.ndarray, records: np.ndarray) -> Unknown:
        """The counts of unknown pieces in ids (n,), given the RECORD (m,) of the unknown ones among them."""
        known = int(self.num_characters[ids].sum(dtype=np.int64))
        unknown = int(records["characters"].sum(dtype=np.int64))
        return Unknown(pieces=len(records), of_pieces=len(ids), characters=unknown, of_characters=known + unknown)


def are_marks(spellings: Sequence[str]) -> np.ndarray:
    """bool (n,): which pieces have nothing but punctuation and the like, or no character at all."""
    return np.array([all(unicodedata.category(c)[0] in MARKS for c in spelling) for spelling in spellings], bool)
