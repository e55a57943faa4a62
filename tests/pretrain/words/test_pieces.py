"""Words of a sentence of pieces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from json_tokenizers import TOKENIZERS

from data_tools.tokenizers.encoder import open_encoder
from data_tools.tokenizers.sentence_piece import BOS_ID, EOS_ID, TOKENIZER_JSON, UNK_ID, PieceEncoder
from pretrain.views.pair import framed
from pretrain.words.pieces import WordPieces
from pretrain.words.word_list import UNLISTED, Numbered


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


@pytest.mark.parametrize("name", ["wordpiece", "bpe", "roberta", "camembert"])
def test_words_of_other_tokenizers_are_found_and_looked_up(name: str, tmp_path: Path) -> None:
    """Their first pieces are marked, or all others are; a word of a list is the same inside a sentence."""
    TOKENIZERS[name](tmp_path)
    encoder = open_encoder(tmp_path)
    word_pieces = WordPieces.of(encoder)
    ids, _ = encoder.encode_flat(["the dog and katze, hund dog!"])
    ids = framed(ids, encoder.special)
    words = word_pieces.words(ids)
    found = [encoder.decode(ids[start:end]).strip() for start, end in zip(words.starts, words.ends, strict=True)]
    first = [] if name == "roberta" else ["the"]  # RoBERTa's first word has no mark
    assert found == [*first, "dog", "and", "katze", "hund", "dog"]
    assert words.hashes[-1] == words.hashes[-5] and len(set(words.hashes.tolist())) == len(found) - 1
    numbered = Numbered()
    numbers = [numbered.number(word) for word in ("katze", "dog", "hund")]
    listed = numbered.word_list(encoder, word_pieces).look_up(words.hashes[-4:])
    assert listed.tolist() == [UNLISTED, numbers[0], numbers[2], numbers[1]]


def test_pieces_that_do_not_show_words_are_refused(tmp_path: Path) -> None:
    TOKENIZERS["bpe"](tmp_path)
    path = tmp_path / TOKENIZER_JSON
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["pre_tokenizer"] = {"type": "Whitespace"}
    path.write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ValueError, match="its pieces do not show where words begin; objectives that read words need"):
        WordPieces.of(open_encoder(tmp_path))
