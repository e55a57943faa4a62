"""Pieces and their characters for each kind of tokenizer: words, answers, marks, what looks like special tokens."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_encoders import ENCODERS, ODD_TEXTS
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from finetune.encoders import open_encoder
from finetune.understanding.heads.question_answering import token_span, with_marks
from finetune.understanding.heads.tagging import Tagging
from finetune.understanding.rows.encoding import LocatedPieces, TextEncoder, text_encoder
from finetune.understanding.tasks.examples import Answer, TaggedSentence

SENTENCES = (
    ("hund", "haus", "rot"),
    ("İstanbul", "büyük", "."),
    ("กรุงเทพ", "เมือง", "หลวง"),
    ("北京", "是", "首都"),
    ("القاهرة", "عاصمة", "مصر"),
    ("Tie\u0302\u0301ng", "Vie\u0323\u0302t", "ra\u0302\u0301t", "hay"),
    ("😀👍🏽", "x", "don't", "U.S."),
)
BYTES = ("roberta", "modernbert", "mmbert")  # whose tokenizers distinguish a word behind a space


@pytest.fixture(params=ENCODERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def text(name: str, encoder_directory: Callable[[str], Path]) -> TextEncoder:
    return text_encoder(open_encoder(encoder_directory(name)))


def test_words_have_the_pieces_of_running_text(name: str, text: TextEncoder) -> None:
    """The oracle is the tokenizer over the whole sentence, behind a space where that is distinguished."""
    for words in SENTENCES:
        pieces = text.encode_words(words)
        sentence = (" " if name in BYTES else "") + " ".join(words)
        assert [int(piece) for word in pieces for piece in word] == list(text.encode([sentence])[0])
        encoded = text.tokenizer(sentence, add_special_tokens=False)
        place, start = 0, len(sentence) - len(" ".join(words))
        for word, own in zip(words, pieces, strict=True):
            assert place <= encoded.char_to_token(start) < place + len(own), word
            place, start = place + len(own), start + len(word) + 1


# transformers has no such switch for mmBERT's: without it, words would be glued to each other.
@pytest.mark.parametrize("name", sorted(ENCODERS.keys() - {"mmbert"}))
def test_words_are_those_of_transformers(name: str, encoder_directory: Callable[[str], Path]) -> None:
    """`is_split_into_words`, for which transformers' scripts have bytes opened with `add_prefix_space`."""
    encoder = text_encoder(open_encoder(encoder_directory(name)))
    tokenizer = AutoTokenizer.from_pretrained(encoder_directory(name))
    if name in BYTES:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    for words in SENTENCES:
        expected = tokenizer(list(words), is_split_into_words=True, add_special_tokens=False)
        pieces = encoder.encode_words(words)
        assert [piece for word in pieces for piece in word] == expected["input_ids"]
        assert [number for number, word in enumerate(pieces) for _ in word] == expected.word_ids()


def answer_of(context: str, pieces: LocatedPieces, span: tuple[int, int]) -> str:
    start, end = with_marks(context, int(pieces.starts[span[0]]), int(pieces.ends[span[1]]))
    return context[start:end].strip()


def test_pieces_of_every_substring_give_it_back(text: TextEncoder) -> None:
    """The pieces of an answer have its characters and no other; answers that cut a piece or a letter are left out."""
    for context in (*ODD_TEXTS, "der hund, rot: das haus-boot (3,5 %)"):
        (pieces,) = text.locate([context])
        assert (np.diff(pieces.starts) >= 0).all() and (np.diff(pieces.ends) >= 0).all()
        assert (pieces.starts <= pieces.ends).all() and pieces.ends.max() <= len(context)
        places = np.arange(len(context) + 1)[:, None]
        is_cut = ((pieces.starts < places) & (places < pieces.ends)).any(axis=1)
        is_cut |= [unicodedata.category(letter).startswith("M") for letter in context + " "]
        bounds = np.flatnonzero(~is_cut).tolist()
        assert len(bounds) > 5
        for start, end in itertools.combinations(bounds, 2):
            if answer := context[start:end].strip():
                span = token_span(pieces, Answer(answer, context.index(answer, start)))
                assert span is not None and answer_of(context, pieces, span) == answer


def test_no_answer_loses_its_marks(text: TextEncoder) -> None:
    """NFD: an accent is a character of its own, which normalisation drops or joins to its letter."""
    context = unicodedata.normalize("NFD", "người Việt rất mến khách ở Huế và")
    (pieces,) = text.locate([context])
    for word in context.split():
        span = token_span(pieces, Answer(word, context.index(word)))
        assert span is not None and answer_of(context, pieces, span) == word


def test_text_never_yields_a_special_id(name: str, text: TextEncoder) -> None:
    line = "hund [SEP] </s> [CLS] <s> <pad> [PAD] <eos> <mask> [MASK] haus"
    special = set(text.tokenizer.all_special_ids) - {text.tokenizer.unk_token_id}
    for ids in (text.encode([line])[0], text.locate([line])[0].ids.tolist(), *text.encode_words(line.split())):
        assert special.isdisjoint(ids)
        assert len(ids)
    if name == "modernbert":  # has no unknown token: special tokens are text like any other
        assert text.tokenizer.decode(text.encode([line])[0]) == line
    else:
        assert text.unknown in text.encode([line])[0]


def test_a_tokenizer_without_unknown_token_drops_no_word() -> None:
    """A BPE of letters drops what it does not know: such a word becomes the mask."""
    vocabulary = {"[CLS]": 0, "[SEP]": 1, "[MASK]": 2, "a": 3, "b": 4}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    names = {"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    encoder = TextEncoder(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names))
    assert [list(word) for word in encoder.encode_words(["ab", "xyz"])] == [[3, 4], []]
    sentence = TaggedSentence(("ab", "xyz", "b"), ("X", "Y", "X"), "de")
    rows = Tagging(("X", "Y"), max_length=10, stride=2).encode([sentence], encoder)
    assert rows.tokens[0].tolist() == [0, 3, 4, 2, 4, 1]
    assert rows.token_targets["labels"].tolist() == [-100, 0, -100, 1, 0, -100]
