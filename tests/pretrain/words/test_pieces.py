"""Words of a sentence of pieces."""

from __future__ import annotations

import numpy as np
import pytest

from data_tools.tokenizers.sentence_piece import BOS_ID, EOS_ID, UNK_ID, PieceEncoder
from pretrain.words.pieces import WordPieces


def framed_line(encoder: PieceEncoder, line: str) -> np.ndarray:
    (ids,) = encoder.encode_lines([line])
    return np.array([BOS_ID, *ids, EOS_ID])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Das Haus ist groß, der Hund klein!", ["Das", "Haus", "ist", "groß", "der", "Hund", "klein"]),
        ("Hund - Katze .", ["Hund", "Katze"]),
        ("Hund-Katze-", ["Hund-Katze"]),  # marks inside a word are of it
        (". , !", []),
        ("", []),
    ],
)
def test_words_are_without_marks_behind_them(line: str, words: list[str], encoder: PieceEncoder) -> None:
    ids = framed_line(encoder, line)
    found = WordPieces.of(encoder).words(ids)
    assert [encoder.decode(ids[a:b]) for a, b in zip(found.starts, found.ends, strict=True)] == words


def test_equal_words_have_equal_hashes_and_others_do_not(encoder: PieceEncoder) -> None:
    word_pieces = WordPieces.of(encoder)
    hashes = word_pieces.words(framed_line(encoder, "Hund und Katze, und Hund!")).hashes
    assert hashes[0] == hashes[4] and hashes[1] == hashes[3] and len(set(hashes.tolist())) == 3
    assert hashes[2] == word_pieces.words(framed_line(encoder, "Katze")).hashes[0]


def test_a_word_with_an_unknown_piece_is_like_no_other(encoder: PieceEncoder) -> None:
    ids = framed_line(encoder, "Hund 語 語")
    assert UNK_ID in ids
    found = WordPieces.of(encoder).words(ids)
    assert found.hashes.tolist()[1:] == [0, 0] and found.hashes[0] != 0


def test_what_stands_before_the_first_word_is_of_none(encoder: PieceEncoder) -> None:
    ids = framed_line(encoder, "Hund Katze")
    word_pieces = WordPieces.of(encoder)
    assert len(word_pieces.words(ids[2:]).starts) == 1
