"""Word lists by number, and which of their words go together: small arrays, cheap to send to other processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.sparse import csr_array

from data_tools.tokenizers.encoder import Encoder
from pretrain.words.pieces import WordPieces

UNLISTED = -1


@dataclass(frozen=True)
class WordList:
    """The words of a language, numbered: spellings that differ in case only are one word.

    `hashes` (S,) of all spellings, ascending, belong to the words `numbers` (S,). The pieces of word w, as one of its
    spellings has them, are `pieces[ends[w - 1]:ends[w]]`.
    """

    hashes: np.ndarray
    numbers: np.ndarray
    pieces: np.ndarray
    ends: np.ndarray

    def look_up(self, hashes: np.ndarray) -> np.ndarray:
        """The numbers int64 (n,) of words with these hashes, UNLISTED for those that it does not have."""
        if not len(self.hashes):
            return np.full(len(hashes), UNLISTED)
        places = np.minimum(self.hashes.searchsorted(hashes), len(self.hashes) - 1)
        return np.where(self.hashes[places] == hashes, self.numbers[places], UNLISTED)

    def pieces_of(self, word: int) -> np.ndarray:
        """The pieces of a word."""
        return self.pieces[self.ends[word - 1] if word else 0 : self.ends[word]]


@dataclass(frozen=True)
class Links:
    """Pairs of words (a, b), by number: `codes`, ascending, are a * 2^32 + b."""

    codes: np.ndarray

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray) -> Self:
        """The pairs of the i-th numbers of both, without those of which one is UNLISTED."""
        listed = (first >= 0) & (second >= 0)
        return cls(distinct(coded(first[listed], second[listed])))

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Boolean (n, m): whether word i of `first` (n,) and word j of `second` (m,) are a pair."""
        wanted = coded(first[:, None], second)
        if not len(self.codes):
            return np.zeros(wanted.shape, bool)
        # Where a number is UNLISTED, the code is negative.
        return self.codes[np.minimum(self.codes.searchsorted(wanted), len(self.codes) - 1)] == wanted

    def partners(self, first: int) -> np.ndarray:
        """The words b of pairs (first, b)."""
        begin, end = self.codes.searchsorted([first << 32, (first + 1) << 32])
        return self.codes[begin:end] & 0xFFFFFFFF

    @property
    def turned(self) -> Links:
        """The pairs (b, a)."""
        return Links(np.sort((self.codes & 0xFFFFFFFF) << 32 | self.codes >> 32))

    @property
    def symmetric(self) -> Links:
        """The pairs (a, b) and (b, a), without those of a word with itself."""
        both = self | self.turned
        return Links(both.codes[both.codes >> 32 != both.codes & 0xFFFFFFFF])

    def __or__(self, other: Links) -> Links:
        return Links(distinct(np.concatenate([self.codes, other.codes])))

    def matrix(self, num_first: int, num_second: int) -> csr_array:
        """The pairs as the ones of a sparse matrix, of which there are so many rows and columns."""
        places = self.codes >> 32, self.codes & 0xFFFFFFFF
        return csr_array((np.ones(len(self.codes), np.int32), places), shape=(num_first, num_second))


def distinct(codes: np.ndarray) -> np.ndarray:
    """Codes in ascending order, each once. np.unique, which hashes them first, takes five times as long."""
    in_order = np.sort(codes)
    return in_order[np.diff(in_order, prepend=-1) != 0]


def coded(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Codes of pairs; negative where a number is."""
    return first.astype(np.int64) << 32 | second


def joined(first: Links, second: Links, sizes: tuple[int, int, int]) -> Links:
    """The pairs (a, c) that some b joins: (a, b) of `first` and (b, c) of `second`; `sizes` count all a, b and c."""
    product = (first.matrix(*sizes[:2]) @ second.matrix(*sizes[1:])).tocoo()
    return Links.of(*(np.asarray(places, np.int64) for places in product.coords))


class Numbered:
    """The words of a language while its list is being made: terms get numbers, those of several words UNLISTED."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._spellings: dict[str, int] = {}

    def __len__(self) -> int:
        """How many words have numbers."""
        return len(self._numbers)

    def number(self, term: str) -> int:
        """The number of a term, which is remembered with its spelling."""
        if (known := self._spellings.get(term)) is not None:
            return known
        number = UNLISTED if " " in term else self._numbers.setdefault(term.casefold(), len(self._numbers))
        self._spellings[term] = number
        return number

    def word_list(self, encoder: Encoder, word_pieces: WordPieces) -> WordList:
        """The list of all words so far, each in the spellings given and in these with a capital.

        A spelling that the tokenizer does not see as one word, or does not know, is left out.
        """
        spelt = {spelling: number for spelling, number in self._spellings.items() if number != UNLISTED}
        spelt |= {spelling[0].upper() + spelling[1:]: number for spelling, number in spelt.items()}
        return self._listed(list(spelt), np.array(list(spelt.values()), np.int32), encoder, word_pieces)

    def _listed(
        self, spellings: Sequence[str], numbers: np.ndarray, encoder: Encoder, word_pieces: WordPieces
    ) -> WordList:
        ids, lengths = encoder.encode_words(spellings)
        words = word_pieces.words(ids)
        spelling_of_word = np.cumsum(lengths).searchsorted(words.starts, "right")
        is_good = (np.bincount(spelling_of_word, minlength=len(spellings))[spelling_of_word] == 1) & (words.hashes != 0)
        starts, ends, hashes = (array[is_good] for array in words)
        numbers = numbers[spelling_of_word[is_good]]
        _, kept = np.unique(numbers, return_index=True)
        lengths = np.zeros(len(self._numbers), np.int64)
        lengths[numbers[kept]] = ends[kept] - starts[kept]
        pieces = [ids[start:end] for start, end in zip(starts[kept], ends[kept], strict=True)]
        hashes, firsts = np.unique(hashes, return_index=True)
        flat = np.concatenate(pieces) if pieces else ids[:0]
        return WordList(hashes, numbers[firsts], flat, lengths.cumsum().astype(np.int32))
