"""SentencePiece's normalisation as in the docstring of data_tools.readers: the reason why readers keep characters."""

from itertools import chain
from pathlib import Path

import pytest
import sentencepiece

from data_tools.tokenizers.sentence_piece import MODEL_FILE


@pytest.fixture(scope="module")
def processor(tokenizer_dir: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_dir / MODEL_FILE))


SPACES = [*"\t\n\r\x0c\xa0\u2009\u2028\u2029\u3000\u200b\u200c\u200e\u200f\ufeff\ufffd"]
DELETED = list(map(chr, chain(range(0x01, 0x09), [0x0B], range(0x0E, 0x20), [0x7F, 0x8F, 0x9F])))
OTHER_CONTROLS = [0x00, *range(0x80, 0x8F), *range(0x90, 0x9F)]
KEPT = [*map(chr, OTHER_CONTROLS), *"\xad\u200d\u202a\u202e\u2060\u206f\ufe0f\ue000"]


def test_sentencepiece_normalises_characters_as_documented(processor: sentencepiece.SentencePieceProcessor) -> None:
    for character in SPACES:
        assert processor.normalize(f"ab{character}cd") == processor.normalize("ab cd"), hex(ord(character))
    for character in DELETED:
        assert processor.normalize(f"ab{character}cd") == processor.normalize("abcd"), hex(ord(character))
    for character in KEPT:
        expected = processor.normalize("abxcd").replace("x", character)
        assert processor.normalize(f"ab{character}cd") == expected, hex(ord(character))


def test_nul_ends_nothing(processor: sentencepiece.SentencePieceProcessor) -> None:
    # An unknown piece between those of both words.
    ids = processor.encode("the\0letter")
    assert processor.unk_id() in ids
    assert processor.decode([i for i in ids if i != processor.unk_id()]) == "theletter"


def test_half_a_surrogate_pair_fails(processor: sentencepiece.SentencePieceProcessor) -> None:
    with pytest.raises((RuntimeError, UnicodeEncodeError)):
        processor.encode("a\ud83db")
