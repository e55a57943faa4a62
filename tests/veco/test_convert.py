"""transformers' XLM-R is the oracle of the plugged-out model: hidden states, logits and gradients."""

from pathlib import Path

import pytest
import torch
from transformers import XLMRobertaConfig, XLMRobertaForMaskedLM

from veco.convert import from_xlm_roberta, xlm_roberta_names

TOLERANCE = 1e-5  # float32; the position embedding is added in another order than in XLM-R


@pytest.fixture
def xlm_roberta() -> XLMRobertaForMaskedLM:
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=40,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.1,
    )
    model = XLMRobertaForMaskedLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # transformers starts biases at zero and norms at one
            if name.endswith("bias") or "LayerNorm" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_states_logits_and_gradients_equal(xlm_roberta, padded_batch) -> None:
    ids, mask = padded_batch
    labels = torch.where(torch.rand(ids.shape) < 0.5, ids, -100).masked_fill(mask == 0, -100)
    veco = from_xlm_roberta(xlm_roberta)
    theirs = xlm_roberta(ids, attention_mask=mask, labels=labels, output_hidden_states=True)
    ours = veco(ids, attention_mask=mask, labels=labels, output_hidden_states=True)
    real = mask.bool()
    assert len(ours.hidden_states) == len(theirs.hidden_states) == 4
    for our_states, their_states in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        torch.testing.assert_close(our_states[real], their_states[real], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(ours.logits[real], theirs.logits[real], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=0, atol=TOLERANCE)

    ours.loss.backward()
    theirs.loss.backward()
    our_parameters = dict(veco.named_parameters(remove_duplicate=False))
    their_parameters = dict(xlm_roberta.named_parameters(remove_duplicate=False))
    names = xlm_roberta_names(3)
    for our_name, their_name in names.items():
        torch.testing.assert_close(
            our_parameters[our_name].grad, their_parameters[their_name].grad, rtol=0, atol=TOLERANCE, msg=our_name
        )
    ours_alone = {name for name in our_parameters if ".cross_attention" not in name} - set(names)
    assert ours_alone == {"lm_head.decoder.weight"}, "everything else was compared; this one is tied to the embedding"


def test_directory_and_model_convert_alike(xlm_roberta, padded_batch, tmp_path: Path) -> None:
    xlm_roberta.save_pretrained(tmp_path)
    ids, mask = padded_batch
    torch.testing.assert_close(
        from_xlm_roberta(tmp_path)(ids, mask).logits, from_xlm_roberta(xlm_roberta)(ids, mask).logits, rtol=0, atol=0
    )


def test_other_models_are_refused(xlm_roberta) -> None:
    with pytest.raises(ValueError, match="expected an XLMRobertaForMaskedLM or its directory, found XLMRobertaModel"):
        from_xlm_roberta(xlm_roberta.roberta)


def test_key_left_over_is_named(xlm_roberta) -> None:
    xlm_roberta.roberta.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"no place for: roberta\.extra\.bias, roberta\.extra\.weight"):
        from_xlm_roberta(xlm_roberta)
