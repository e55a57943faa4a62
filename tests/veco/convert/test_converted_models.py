"""The other models of VECO, made from a BERT: its padding has id 0, and its `[CLS]` and `[SEP]` any."""

from __future__ import annotations

import pytest
import torch
from random_encoders import MAX_TOKENS, VOCAB_SIZE, padded_ids, random_encoder
from torch import Tensor
from transformers import BertForMaskedLM

from veco import VecoForConditionalGeneration, VecoForMaskedLM, VecoForPreTraining, VecoForSequenceClassification
from veco.convert import from_encoder

CLS, SEP = 7, 8
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def bert() -> BertForMaskedLM:
    return random_encoder("bert", bos_token_id=CLS, eos_token_id=SEP)


@pytest.fixture(scope="module")
def veco(bert: BertForMaskedLM) -> VecoForMaskedLM:
    torch.manual_seed(1)
    return from_encoder(bert).eval()


def test_pretraining_begins_with_the_loss_of_bert(bert: BertForMaskedLM, veco: VecoForMaskedLM) -> None:
    model = VecoForPreTraining(veco.config).eval()
    model.load_state_dict(veco.state_dict())
    x, x_mask = padded_ids(0)
    y, y_mask = x.flip(0), x_mask.flip(0)
    x_labels, y_labels = (
        ids.masked_fill((ids % 3 != 0) | (mask == 0), -100) for ids, mask in ((x, x_mask), (y, y_mask))
    )
    with torch.no_grad():
        losses = model(x, x_mask, x_labels, pair_input_ids=y, pair_attention_mask=y_mask, pair_labels=y_labels).losses
        expected = sum(
            bert(ids, attention_mask=mask, labels=labels).loss
            for ids, mask, labels in ((x, x_mask, x_labels), (y, y_mask, y_labels))
        )
    torch.testing.assert_close(losses["mlm"], expected, rtol=0, atol=TOLERANCE)
    assert losses["ca_mlm"].isfinite()


def test_translation_reads_as_bert_and_writes_with_a_cache_as_without(
    bert: BertForMaskedLM, veco: VecoForMaskedLM
) -> None:
    model = VecoForConditionalGeneration.from_veco(veco, 2, decoder_start_token_id=CLS).eval()
    ids, mask = padded_ids(0)
    with torch.no_grad():
        states = model.get_encoder()(ids, mask).last_hidden_state[mask.bool()]
        expected = bert.bert(ids, attention_mask=mask).last_hidden_state[mask.bool()]
        torch.testing.assert_close(states, expected, rtol=0, atol=TOLERANCE)
        found = model.generate(ids, attention_mask=mask, num_beams=1, max_length=MAX_TOKENS, min_length=MAX_TOKENS)
        assert torch.equal(found, greedy(model, ids, mask))


def greedy(model: VecoForConditionalGeneration, ids: Tensor, mask: Tensor) -> Tensor:
    """MAX_TOKENS tokens of each target, every one the most probable but for `[SEP]` after the others, no cache."""
    written = torch.full((len(ids), 1), CLS)
    while written.shape[1] < MAX_TOKENS:
        logits = model(ids, mask, decoder_input_ids=written, use_cache=False).logits[:, -1]
        logits[:, SEP] = -torch.inf
        written = torch.cat([written, logits.argmax(-1, keepdim=True)], dim=1)
    return written


def test_a_classifier_of_pairs_does_not_see_padding(veco: VecoForMaskedLM) -> None:
    veco.config.plug_in = True
    torch.manual_seed(2)
    model = VecoForSequenceClassification(veco.config).eval()
    model.veco.load_state_dict(veco.veco.state_dict())
    x, x_mask = padded_ids(0)
    y, y_mask = x.flip(0), x_mask.flip(0)
    with torch.no_grad():
        logits = model(x, x_mask, pair_input_ids=y, pair_attention_mask=y_mask).logits
        for row in range(len(x)):
            alone = model(x[row : row + 1, x_mask[row].bool()], pair_input_ids=y[row : row + 1, y_mask[row].bool()])
            torch.testing.assert_close(alone.logits[0], logits[row], rtol=0, atol=TOLERANCE)
    assert logits.std(0).min() > 1e-3 and int(x.max()) < VOCAB_SIZE
