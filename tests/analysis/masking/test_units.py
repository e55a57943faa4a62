"""Words of a text: the same for all tokenizers, in scripts with and without spaces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_encoders import ENCODERS, ODD_TEXTS

from analysis.masking.units import units_of
from finetune.encoders import open_encoder
from finetune.understanding.rows.encoding import LocatedPieces, text_encoder


def located(text: str, *pieces: str) -> LocatedPieces:
    """Pieces that follow each other in a text, in which they may begin with a space."""
    starts: list[int] = []
    end = 0
    for piece in pieces:
        starts.append(text.index(piece, end))
        end = starts[-1] + len(piece)
    ends = [start + len(piece) for start, piece in zip(starts, pieces, strict=True)]
    return LocatedPieces(np.arange(len(pieces), dtype=np.int32), np.array(starts), np.array(ends))


def words(text: str, *tokenizers: LocatedPieces) -> list[str]:
    """The units of a text, without spaces."""
    found = units_of(text, tokenizers)
    ends = np.cumsum(found.characters)
    characters = "".join(text.split())
    return [characters[end - length : end] for end, length in zip(ends, found.characters, strict=True)]


def test_words_end_at_spaces_and_punctuation_whatever_the_pieces() -> None:
    text = "  The dog isn't here, now."
    fine = located(text, "The", " do", "g", " is", "n", "'", "t", " here", ",", " ", "now", ".")
    whole = located(text, "The", "dog", "isn't", "here", ",", "now", ".")
    assert words(text, fine, whole) == ["The", "dog", "isn't", "here", ",", "now", "."]
    units = units_of(text, [fine, whole])
    assert units.of_pieces[0].tolist() == [0, 1, 1, 2, 2, 2, 2, 3, 4, 5, 5, 6]  # a space alone belongs to what follows
    assert units.of_pieces[1].tolist() == list(range(7))


def test_words_are_joined_where_any_tokenizer_has_a_piece_across_their_border() -> None:
    text = "北京是首都。 x"
    ones, pairs = located(text, *"北京是首都。x"), located(text, "北京", "是", "首都。", " x")
    assert words(text, ones) == list("北京是首都。x")
    assert words(text, pairs) == words(text, ones, pairs) == ["北京", "是", "首都。", "x"]
    units = units_of(text, [ones, pairs])
    assert units.first_words.tolist() == [0, 2, 3, 6]
    assert units.of_pieces[0].tolist() == [0, 0, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("text", [*ODD_TEXTS, "\u0301 a", "a \u200b", "-- 👍🏽👍🏽 »x«"])
def test_every_character_and_piece_has_a_unit_in_every_tokenizer(
    text: str, encoder_directory: Callable[[str], Path]
) -> None:
    encoders = [text_encoder(open_encoder(encoder_directory(name), "model")) for name in sorted(ENCODERS)]
    pieces = [encoder.locate([text])[0] for encoder in encoders]
    units = units_of(text, pieces)
    assert units.characters.sum() == len("".join(text.split())) and (units.characters > 0).all()
    for own, of_pieces in zip(pieces, units.of_pieces, strict=True):
        assert len(of_pieces) == len(own.ids)
        assert (np.diff(of_pieces) >= 0).all() and (of_pieces >= 0).all() and (of_pieces < len(units)).all()
