"""transformers' `generate()` and a translation model's outputs."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from veco import VecoConfig, VecoForConditionalGeneration


def test_translation_model_returns_states_and_attentions(config: VecoConfig, padded_batch: Any) -> None:
    config.decoder_start_token_id = 5
    torch.manual_seed(0)
    model = VecoForConditionalGeneration(config).eval()
    ids, mask = padded_batch
    targets = torch.randint(4, 59, (3, 6))
    output = model(ids, mask, targets, output_hidden_states=True, output_attentions=True, use_cache=False)
    torch.testing.assert_close(output.logits, model(ids, mask, targets, use_cache=False).logits, rtol=0, atol=1e-5)
    assert len(output.encoder_hidden_states) == len(output.decoder_hidden_states) == 4
    assert [tuple(weights.shape) for weights in output.encoder_attentions] == [(3, 4, 12, 12)] * 3
    assert [tuple(weights.shape) for weights in output.decoder_attentions] == [(3, 4, 6, 6)] * 3
    assert [tuple(weights.shape) for weights in output.cross_attentions] == [(3, 4, 6, 12)] * 3
    assert output.decoder_attentions[0].triu(1).eq(0).all(), "nothing later is seen"
    embedded = model.get_input_embeddings()
    given = model(
        inputs_embeds=embedded(ids), attention_mask=mask, decoder_inputs_embeds=embedded(targets), use_cache=False
    )
    full = torch.ones_like(mask)
    by_ids = model(ids.masked_fill(mask.eq(0), 7), full, targets, use_cache=False)
    by_embeddings = model(
        inputs_embeds=embedded(ids.masked_fill(mask.eq(0), 7)),
        attention_mask=full,
        decoder_inputs_embeds=embedded(targets),
        use_cache=False,
    )
    assert given.logits.shape == by_ids.logits.shape
    torch.testing.assert_close(by_embeddings.logits, by_ids.logits, rtol=0, atol=1e-5)
    generated = model.generate(
        ids, attention_mask=mask, max_new_tokens=4, num_beams=2, output_attentions=True, output_hidden_states=True,
        return_dict_in_generate=True,
    )  # fmt: skip
    assert generated.cross_attentions and generated.decoder_hidden_states


def test_generation_without_a_mask_masks_padding(config: VecoConfig, padded_batch: Any) -> None:
    config.decoder_start_token_id, config.initializer_range = 5, 0.3
    torch.manual_seed(0)
    model = VecoForConditionalGeneration(config).eval()
    ids, mask = padded_batch
    for options in ({}, {"num_beams": 3}, {"do_sample": True}):
        length = {"min_new_tokens": 6, "max_new_tokens": 6}
        torch.manual_seed(4)
        given = model.generate(ids, attention_mask=mask, **length, **options)
        torch.manual_seed(4)
        assert torch.equal(model.generate(ids, **length, **options), given)


def test_generation_stops_at_the_last_position_and_returns_its_text(
    config: VecoConfig, padded_batch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config.decoder_start_token_id, config.max_position_embeddings = 5, 22
    torch.manual_seed(0)
    model = VecoForConditionalGeneration(config).eval()
    ids, mask = padded_batch
    logging.disable(logging.NOTSET)
    with caplog.at_level(logging.WARNING, logger="veco.seq2seq"):
        found = model.generate(ids, attention_mask=mask, min_new_tokens=50, max_new_tokens=50)
    assert found.shape == (3, 20)
    assert "generation ends at 20 tokens, start token included" in caplog.text
    fewer = model.generate(ids, attention_mask=mask, min_new_tokens=19, max_new_tokens=19)
    assert torch.equal(found, fewer)
