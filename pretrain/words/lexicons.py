"""The words of pairs of sentences, and which of them are translations or synonyms."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse.csgraph import connected_components

from pretrain.words.pieces import WordPieces, Words
from pretrain.words.word_list import UNLISTED, Links, WordList

NO_WORDS = WordList(np.zeros(0, np.uint64), *(np.zeros(0, np.int32) for _ in range(3)))
ALONE = -1
NO_LINKS = Links(np.zeros(0, np.int64))


@dataclass(frozen=True)
class Lexicons:
    """Word lists by language, and links between them: for views of pairs, in whichever process these are made.

    `translations["de-en"]` links words of de with those of en that a lexicon has for them, `translations["en-de"]` the
    same the other way round. `related["de-en"]` has their synonyms besides, where there are thesauri; `synonyms["de"]`
    are those of one language.
    """

    word_pieces: WordPieces
    word_lists: Mapping[str, WordList] = field(default_factory=dict)
    translations: Mapping[str, Links] = field(default_factory=dict)
    related: Mapping[str, Links] = field(default_factory=dict)
    synonyms: Mapping[str, Links] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """SHA-256 of all words and links: equal for files that give the same views of a pair."""
        digest = hashlib.sha256()
        for kind, name, array in self._arrays():
            digest.update(f"{kind} {name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _arrays(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Each array with what it is of."""
        kinds: Mapping[str, Mapping[str, WordList | Links]] = {
            **{"word list": self.word_lists, "translations": self.translations},
            **{"related": self.related, "synonyms": self.synonyms},
        }
        for kind, of_names in kinds.items():
            for name in sorted(of_names):
                yield from ((kind, name, array) for array in vars(of_names[name]).values())

    def links(self, name: str) -> bool:
        """Whether there is a translation between words of a language pair."""
        return len(self.translations.get(name, NO_LINKS).codes) > 0

    def shares_listed(self, name: str, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
        """The shares of the words of x, and of y, in these pairs of ids of a language pair that its lists have."""
        listed, words = [0, 0], [0, 0]
        for x, y in pairs:
            for side, numbers in enumerate(self.words(name, x, y).numbers):
                listed[side] += int(np.count_nonzero(numbers != UNLISTED))
                words[side] += len(numbers)
        return listed[0] / max(1, words[0]), listed[1] / max(1, words[1])

    def words(self, name: str, x: np.ndarray, y: np.ndarray) -> PairWords:
        """The words of the ids of a pair of sentences of the language pair `name`."""
        languages = name.split("-")
        found = [self.word_pieces.words(ids) for ids in (x, y)]
        lists = [self.word_lists.get(language, NO_WORDS) for language in languages]
        numbers = [of_language.look_up(words.hashes) for of_language, words in zip(lists, found, strict=True)]
        return PairWords(self, name, (x, y), (found[0], found[1]), (numbers[0], numbers[1]))


@dataclass(frozen=True)
class PairWords:
    """The words of x and y, and their numbers in the lists of their languages, UNLISTED where they are in none."""

    lexicons: Lexicons
    name: str
    ids: tuple[np.ndarray, np.ndarray]
    words: tuple[Words, Words]
    numbers: tuple[np.ndarray, np.ndarray]

    @property
    def translated(self) -> np.ndarray:
        """Boolean (words of x, words of y): the pairs that a lexicon has."""
        return self.lexicons.translations.get(self.name, NO_LINKS).between(*self.numbers)

    def translations(self, side: int, word: int) -> list[np.ndarray]:
        """The pieces of each translation that a lexicon has for a word of x (side 0) or of y (side 1).

        Those that the tokenizer has no piece for are left out.
        """
        languages = self.name.split("-")
        own, other = languages[side], languages[1 - side]
        number = int(self.numbers[side][word])
        if number == UNLISTED:
            return []
        words = self.lexicons.translations.get(f"{own}-{other}", NO_LINKS).partners(number).tolist()
        found = [self.lexicons.word_lists[other].pieces_of(partner) for partner in words]
        return [pieces for pieces in found if len(pieces)]

    def pieces(self, side: int, word: int) -> np.ndarray:
        """The pieces of a word of x (side 0) or of y (side 1)."""
        words = self.words[side]
        return self.ids[side][words.starts[word] : words.ends[word]]

    @property
    def groups(self) -> np.ndarray:
        """The group of each word of x and then of y, int64 (words,): from 0, and -1 for a word by itself.

        Words of a group are, directly or by others of it, translations or synonyms of each other.
        """
        x, y = self.numbers
        between = self.lexicons.related.get(self.name, NO_LINKS).between(x, y)
        of_x, of_y = (
            self.lexicons.synonyms.get(language, NO_LINKS).between(numbers, numbers)
            for language, numbers in zip(self.name.split("-"), self.numbers, strict=True)
        )
        _, components = connected_components(np.block([[of_x, between], [between.T, of_y]]), directed=False)
        is_grouped = np.bincount(components, minlength=1)[components] > 1
        found = np.full(len(components), ALONE)
        found[is_grouped] = np.unique(components[is_grouped], return_inverse=True)[1]
        return found
