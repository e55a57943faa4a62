"""Numbers of words, links between them, and links of links."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_tools.tokenizers.sentence_piece import PieceEncoder
from pretrain.words.pieces import WordPieces
from pretrain.words.word_list import UNLISTED, Links, Numbered, WordList, joined

PAIRS = st.sets(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def links(pairs: set[tuple[int, int]]) -> Links:
    array = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return Links.of(array[:, 0], array[:, 1])


def pairs_of(found: Links) -> set[tuple[int, int]]:
    return {(int(code) >> 32, int(code) & 0xFFFFFFFF) for code in found.codes}


@given(PAIRS, PAIRS)
def test_links_are_sets_of_pairs(first: set[tuple[int, int]], second: set[tuple[int, int]]) -> None:
    a, b = links(first), links(second)
    assert pairs_of(a) == first
    assert pairs_of(a | b) == first | second
    assert pairs_of(a.turned) == {(y, x) for x, y in first}
    assert pairs_of(a.symmetric) == {pair for x, y in first for pair in ((x, y), (y, x)) if x != y}
    assert pairs_of(joined(a, b, (7, 7, 7))) == {(x, z) for x, y in first for w, z in second if w == y}
    numbers = np.array([UNLISTED, *range(7)])
    assert a.between(numbers, numbers).tolist() == [[(x, y) in first for y in numbers] for x in numbers]
    for x in range(7):
        assert a.partners(x).tolist() == sorted(y for w, y in first if w == x)


def test_codes_are_in_order_and_large_numbers_fit() -> None:
    found = Links.of(np.array([2**31 - 1, 3, UNLISTED]), np.array([2**31 - 2, 5, 4]))
    assert pairs_of(found) == {(3, 5), (2**31 - 1, 2**31 - 2)}
    assert found.between(np.array([3, 2**31 - 1]), np.array([5])).tolist() == [[True], [False]]


def listed(terms: list[str], encoder: PieceEncoder) -> tuple[WordList, list[int]]:
    numbered = Numbered()
    numbers = [numbered.number(term) for term in terms]
    return numbered.word_list(encoder, WordPieces.of(encoder)), numbers


@pytest.mark.parametrize(
    ("term", "word"), [("Hund", "Hund"), ("der", "Der"), ("der", "der"), ("klein!", "klein"), ("haus", "Haus")]
)
def test_spellings_of_a_word_are_found(term: str, word: str, encoder: PieceEncoder) -> None:
    words, numbers = listed(["Katze", term, "und"], encoder)
    hashes = WordPieces.of(encoder).words(encoder.encode_lines([f"Dog {word}, cat"])[0]).hashes
    assert words.look_up(hashes).tolist() == [UNLISTED, numbers[1], UNLISTED]


def test_words_that_differ_in_case_only_are_one(encoder: PieceEncoder) -> None:
    _, numbers = listed(["hund", "Hund", "HUND", "Katze", "ein Hund"], encoder)
    assert numbers == [0, 0, 0, 1, UNLISTED]


def test_pieces_are_those_of_the_first_spelling(encoder: PieceEncoder) -> None:
    words, numbers = listed(["cat", "語", "house", "House"], encoder)
    assert [encoder.decode(words.pieces_of(number)) for number in numbers] == ["cat", "", "house", "house"]


def test_empty_list_has_no_word(encoder: PieceEncoder) -> None:
    words, _ = listed([], encoder)
    assert words.look_up(np.array([7], np.uint64)).tolist() == [UNLISTED]
