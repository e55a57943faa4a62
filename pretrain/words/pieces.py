"""Where the words of a sentence stand among its pieces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from data_tools.deduplicate.hashing import sentence_hashes
from data_tools.tokenizers.encoder import Encoder
from data_tools.tokenizers.piece_table import are_marks


class Words(NamedTuple):
    """The words of a sentence, int64 (W,): word i is the pieces `starts[i]` to `ends[i]`, `hashes[i]`, uint64, theirs.

    Equal words have equal hashes; a word with an unknown piece has the hash 0, since it may be any word.
    """

    starts: np.ndarray
    ends: np.ndarray
    hashes: np.ndarray


@dataclass(frozen=True)
class WordPieces:
    """Which pieces of a vocabulary begin a word, and which are marks only; both boolean (V,). `unk` is the unknown one.

    A word is the pieces from one that begins it up to the next, without the marks behind it: those of a sentence's last
    word include its full stop, and a lexicon has it without. Special ids count as marks. Languages that put no spaces
    between words have no words in this sense.
    """

    starts_word: np.ndarray
    is_mark: np.ndarray
    unk: int | None = None

    @classmethod
    def of(cls, encoder: Encoder) -> Self:
        """Those of a tokenizer; raises ValueError for one whose pieces do not show where words begin."""
        if not encoder.table.starts_word.any():
            raise ValueError(
                f"{encoder.tokenizer_dir}: its pieces do not show where words begin; objectives that read words need a "
                "tokenizer of SentencePiece, WordPiece or byte-level BPE"
            )
        is_mark = are_marks(encoder.spellings)
        if encoder.special.unk is not None:
            is_mark[encoder.special.unk] = False
        return cls(encoder.table.starts_word, is_mark, encoder.special.unk)

    def words(self, ids: np.ndarray) -> Words:
        """The words of a sentence's ids (T,), in order. What stands before the first is of none."""
        if not len(ids):
            return Words(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.uint64)))
        places = np.arange(len(ids))
        starts = np.flatnonzero(self.starts_word[ids])
        lasts = np.append(starts[1:], len(ids)) - 1
        last_of_word = np.maximum.accumulate(np.where(self.is_mark[ids], -1, places))
        ends = last_of_word[lasts] + 1
        is_word = ends > starts
        starts, ends = starts[is_word], ends[is_word]
        return Words(starts, ends, word_hashes(ids, starts, ends, self.unk))


def word_hashes(ids: np.ndarray, starts: np.ndarray, ends: np.ndarray, unk: int | None) -> np.ndarray:
    """uint64 (W,), see `Words`. A list of a million words takes a strange one for its own once in 10^13."""
    if not len(starts):
        return np.zeros(0, np.uint64)
    lengths = ends - starts
    firsts = np.cumsum(lengths) - lengths
    pieces = ids[np.arange(lengths.sum()) + np.repeat(starts - firsts, lengths)]
    is_unknown = np.zeros(len(pieces), bool) if unk is None else pieces == unk
    has_unknown = np.logical_or.reduceat(is_unknown, firsts)
    return np.where(has_unknown, np.uint64(0), sentence_hashes(pieces, lengths))
