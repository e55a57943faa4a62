"""Pieces that another tokenizer has, worked by hand on five old pieces."""

from __future__ import annotations

from pathlib import Path

import pytest
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from transformers import XLMRobertaTokenizer
from word_tokenizers import write_word_pieces

from veco.tokenizer import MODEL_FILE
from veco.vocabulary.new_pieces import lacking_pieces, most_useful
from veco.vocabulary.pieces import Pieces
from veco.vocabulary.xlm_r_layout import XlmRVocabulary

OTHER = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "abab", "жa", "cd", "##d", "##ж", "x", "a"]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Pieces:
    """An XLM-R tokenizer of the pieces ▁, ▁a, a, b, c, d."""
    directory = tmp_path_factory.mktemp("old")
    piece = ModelProto.SentencePiece
    kinds = {"<unk>": piece.UNKNOWN, "<s>": piece.CONTROL, "</s>": piece.CONTROL}
    proto = ModelProto(pieces=[piece(piece=name, type=kind) for name, kind in kinds.items()])
    proto.pieces.extend(piece(piece=name, score=-1.0 - i) for i, name in enumerate(["▁", "▁a", "a", "b", "c", "d"]))
    (directory / MODEL_FILE).write_bytes(proto.SerializeToString())
    XLMRobertaTokenizer.from_pretrained(directory).save_pretrained(directory)
    return Pieces.open(directory)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Pieces:
    directory = tmp_path_factory.mktemp("other")
    write_word_pieces(OTHER, directory)
    return Pieces.open(directory)


@pytest.fixture(scope="module")
def vocabulary(old: Pieces) -> XlmRVocabulary:
    return XlmRVocabulary(old.directory)


def test_lacking_pieces_are_spelt_as_in_sentence_piece(old: Pieces, other: Pieces, vocabulary: XlmRVocabulary) -> None:
    """Not `##d` and `a`, which are `d` and `▁a`."""
    assert lacking_pieces(old, other, vocabulary) == {"▁abab": 5, "▁жa": 6, "▁cd": 7, "ж": 9, "▁x": 10}


def test_the_pieces_that_a_text_needs_most(
    old: Pieces, other: Pieces, vocabulary: XlmRVocabulary, tmp_path: Path
) -> None:
    """First those in words with an unknown piece, then those that save most.

    The text has жa, with an unknown ж, and cdж twice each: ж is in two unknown words, cd and жa too. cd would save
    (▁ c d) 2 x 6 = 12 pieces in its six places, жa (▁ ж a) 2 x 2 = 4, ж none. abab, in no unknown word, saves
    (▁a b a b) 3 x 3 = 9. x never occurs.
    """
    (tmp_path / "a.txt").write_text("abab жa cdж\ncd cd abab\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("abab жa  cdж cd cd\n\n", encoding="utf-8")
    text = [tmp_path / "a.txt", tmp_path / "b.txt"]
    candidates = lacking_pieces(old, other, vocabulary)
    chosen = most_useful(candidates, 99, old, other, vocabulary, text)
    assert list(chosen.items()) == [("▁cd", 7), ("▁жa", 6), ("ж", 9), ("▁abab", 5)]
    assert list(most_useful(candidates, 2, old, other, vocabulary, text)) == ["▁cd", "▁жa"]
