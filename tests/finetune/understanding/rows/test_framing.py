"""Rows are framed as each tokenizer frames them itself, special tokens and token types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_encoders import ENCODERS, ODD_TEXTS
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from finetune.encoders import open_encoder
from finetune.understanding.rows.encoding import TextEncoder, text_encoder
from finetune.understanding.rows.framing import Frame
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.token_rows import TokenRows

TEXTS = ("hund rot haus", "a", *ODD_TEXTS)


@pytest.mark.parametrize("name", ENCODERS)
def test_rows_are_those_of_the_tokenizer(name: str, encoder_directory: Callable[[str], Path]) -> None:
    opened = open_encoder(encoder_directory(name))
    encoder = text_encoder(opened)
    for texts in [*((text,) for text in TEXTS), *zip(TEXTS, TEXTS[::-1], strict=True)]:
        row = encoder.frame(texts).row(*encoder.encode(list(texts)))
        expected = opened.tokenizer(*texts)
        assert row.ids.tolist() == expected["input_ids"]
        if opened.has_token_types:
            assert row.types is not None and row.types.tolist() == expected["token_type_ids"]
            assert 1 in row.types or len(texts) == 1
        else:
            assert row.types is None


def test_a_batch_has_the_types_that_the_tokenizer_pads(encoder_directory: Callable[[str], Path]) -> None:
    opened = open_encoder(encoder_directory("bert"))
    encoder = text_encoder(opened)
    pairs = [("hund", "haus rot baum"), ("ein", "a"), ("milch vogel nacht", "rot")]
    rows = [encoder.pair.row(*encoder.encode(list(pair))) for pair in pairs]
    parts = [TokenRows.of(rows[:1], np.arange(1)), TokenRows.of(rows[1:], np.arange(2))]
    batch = PairedRows.alone(TokenRows.concatenate(parts)).batch(np.array([2, 0, 1]), encoder.pad)
    expected = opened.tokenizer([pairs[i] for i in (2, 0, 1)], padding=True)
    for key in ("input_ids", "attention_mask", "token_type_ids"):
        assert batch[key].tolist() == expected[key], key


def test_places_and_cuts() -> None:
    frame = Frame((0, -1, 2, 2, -1, 2), None)
    assert (frame.num_specials, frame.places) == (4, [1, 4])
    assert frame.row([7, 8], [9]).ids.tolist() == [0, 7, 8, 2, 2, 9, 2]
    assert frame.start_of_last([7, 8]) == 5 and Frame((0, -1, 2), None).start_of_last() == 1
    five, two = [1, 2, 3, 4, 5], [6, 7]
    assert frame.fitting([five, two], 11) == [five, two]
    assert frame.fitting([five, two], 9) == [five[:3], two]
    assert frame.fitting([two, five], 9) == [two, five[:3]]
    assert frame.fitting([five, five], 9) == [five[:3], five[:2]]
    assert Frame((0, -1, 2), None).fitting([five], 4) == [five[:2]]


def bare_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words without special tokens around texts."""
    vocabulary = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def test_tokenizers_that_frame_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="puts no special token before a text or between two"):
        TextEncoder(bare_tokenizer(unk_token="[UNK]"))
    with pytest.raises(ValueError, match="has neither an unknown token nor a mask"):
        TextEncoder(bare_tokenizer())
    only_before = bare_tokenizer(unk_token="[UNK]")
    only_before.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", 1)]
    )
    with pytest.raises(ValueError, match="puts no special token before a text or between two"):
        TextEncoder(only_before)
