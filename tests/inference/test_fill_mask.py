"""Masks filled in from the other sentence, against the model's own logits over all tokens."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
import torch
from transformers import AutoTokenizer

from finetune.placement import Placement
from inference import fill_mask
from inference.fill_mask import MaskFiller
from inference.unfit_text import UnfitTextError
from veco import VecoForMaskedLM
from veco.convert import to_xlm_roberta
from veco.tokenizer import save_tokenizer

MASKED = ["haus <mask> vogel <mask>", "<mask> milch", "rot hund <mask>"]
OTHERS = ["house tree bird red", "night milk", "red dog stone house tree"]


@pytest.mark.parametrize("is_plugged_in", [False, True])
def test_fillings_are_those_of_the_models_logits(is_plugged_in: bool, tiny_model: Path) -> None:
    found = MaskFiller(tiny_model).fill(MASKED, OTHERS if is_plugged_in else None, count=3)
    assert [len(of_sentence) for of_sentence in found] == [2, 1, 1]
    model, tokenizer = VecoForMaskedLM.from_pretrained(tiny_model).eval(), AutoTokenizer.from_pretrained(tiny_model)
    for sentence, other, fillings in zip(MASKED, OTHERS, found, strict=True):
        x, y = (tokenizer(text, return_tensors="pt")["input_ids"] for text in (sentence, other))
        with torch.no_grad():
            h = model.veco(y).last_hidden_state if is_plugged_in else None
            probabilities = model(x, encoder_hidden_states=h).logits[0].softmax(dim=1)
        places = (x[0] == tokenizer.mask_token_id).nonzero().flatten().tolist()
        for place, best in zip(places, fillings, strict=True):
            expected = probabilities[place].topk(3)
            assert [filling.piece for filling in best] == tokenizer.convert_ids_to_tokens(expected.indices.tolist())
            assert [filling.probability for filling in best] == pytest.approx(expected.values.tolist(), abs=1e-5)


def test_masks_in_parts_and_all_pieces(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filler = MaskFiller(tiny_model)
    expected = filler.fill(MASKED, OTHERS)
    monkeypatch.setattr(fill_mask, "BATCH_MASKS", 1)
    for found, wanted in zip(filler.fill(MASKED, OTHERS), expected, strict=True):
        assert [[one.piece for one in of_mask] for of_mask in found] == [[one.piece for one in of] for of in wanted]
    assert len(filler.fill(MASKED[1:2], count=10**6)[0][0]) == len(filler.tokenizer)


def test_rows_without_a_piece_fill_nothing(tiny_model: Path, tmp_path: Path) -> None:
    model, tokenizer = VecoForMaskedLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    model.resize_token_embeddings(len(tokenizer) + 6)
    with torch.no_grad():
        model.lm_head.decoder.bias[len(tokenizer) :] = 100
    model.save_pretrained(tmp_path)
    save_tokenizer(tokenizer, tiny_model, tmp_path, max_tokens=64)
    found, expected = (MaskFiller(path).fill(MASKED, OTHERS) for path in (tmp_path, tiny_model))
    assert [[[one.piece for one in of_mask] for of_mask in of_text] for of_text in found] == [
        [[one.piece for one in of_mask] for of_mask in of_text] for of_text in expected
    ]


def test_the_other_sentence_is_read(tiny_model: Path) -> None:
    filler = MaskFiller(tiny_model)
    assert filler.fill(MASKED[:1], OTHERS[:1]) != filler.fill(MASKED[:1], OTHERS[1:2]) != filler.fill(MASKED[:1])


def test_batches_do_not_show(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filler = MaskFiller(tiny_model)
    at_once = filler.fill(MASKED, OTHERS)
    monkeypatch.setattr("inference.fill_mask.BATCH_PAIRS", 1)
    for alone, together in zip(filler.fill(MASKED, OTHERS), at_once, strict=True):
        assert [[one.piece for one in own] for own in alone] == [[one.piece for one in own] for own in together]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_computed_and_near(dtype: str, tiny_model: Path) -> None:
    exact, found = (
        [[one.probability for of_mask in of_sentence for one in of_mask] for of_sentence in filler.fill(MASKED, OTHERS)]
        for filler in (MaskFiller(tiny_model), MaskFiller(tiny_model, Placement.of(dtype)))
    )
    for own, theirs in zip(found, exact, strict=True):
        assert own != theirs and own == pytest.approx(theirs, rel=0.05)


def test_what_cannot_be_filled(tiny_model: Path, tmp_path: Path) -> None:
    filler = MaskFiller(tiny_model)
    with pytest.raises(ValueError, match="'haus': expected <mask> where a piece is to be filled in"):
        filler.fill(["<mask>", "haus"])
    with pytest.raises(ValueError, match="expected one other sentence for each, found 2 for 1"):
        filler.fill(["<mask>"], ["a", "b"])
    with pytest.raises(UnfitTextError, match="a sentence has .* tokens; the model takes 64"):
        filler.fill(["<mask> " + "rot " * 70])
    # Nothing is computed before all are read.
    with (
        mock.patch.object(fill_mask, "BATCH_PAIRS", 1),
        mock.patch.object(filler, "_fill_batch", side_effect=AssertionError),
        pytest.raises(UnfitTextError, match="a sentence has .* tokens; the model takes 64"),
    ):
        filler.fill(["<mask>", "<mask>"], ["rot", "rot " * 70])
    to_xlm_roberta(tiny_model).save_pretrained(tmp_path)
    save_tokenizer(AutoTokenizer.from_pretrained(tiny_model), tiny_model, tmp_path, max_tokens=64)
    with pytest.raises(ValueError, match="expected a veco, found a xlm-roberta"):
        MaskFiller(tmp_path)
