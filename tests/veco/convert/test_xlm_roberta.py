"""The oracle of the plugged-out model is transformers' XLM-R, both ways: hidden states, logits and gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import (
    XLMRobertaForMaskedLM,
    XLMRobertaModel,
    XLMRobertaXLConfig,
    XLMRobertaXLForMaskedLM,
)
from xlm_roberta import random_xlm_roberta

from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM, VecoForPreTraining, VecoModel
from veco.adapter_config import AdapterConfig
from veco.adapters import activate_adapters, attach_adapter
from veco.convert import from_xlm_roberta, to_xlm_roberta, xlm_roberta_names

TOLERANCE = 1e-5  # float32; the position embedding is added in another order than in XLM-R


@pytest.fixture
def xlm_roberta(config: VecoConfig) -> XLMRobertaForMaskedLM:
    torch.manual_seed(0)
    return random_xlm_roberta(XLMRobertaForMaskedLM, config)


@pytest.fixture
def veco(config: VecoConfig) -> VecoForMaskedLM:
    """A VECO with random biases and norms."""
    torch.manual_seed(1)
    model = VecoForMaskedLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def assert_equal(ours: VecoForMaskedLM, theirs: XLMRobertaForMaskedLM, ids: Tensor, mask: Tensor) -> None:
    """Assert that states of all layers, logits, loss and gradients of shared weights are equal."""
    labels = torch.where(torch.rand(ids.shape) < 0.5, ids, -100).masked_fill(mask == 0, -100)
    our_output = ours(ids, attention_mask=mask, labels=labels, output_hidden_states=True)
    their_output = theirs(ids, attention_mask=mask, labels=labels, output_hidden_states=True)
    real = mask.bool()
    assert len(our_output.hidden_states) == len(their_output.hidden_states) == 4
    for our_states, their_states in zip(our_output.hidden_states, their_output.hidden_states, strict=True):
        torch.testing.assert_close(our_states[real], their_states[real], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(our_output.logits[real], their_output.logits[real], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(our_output.loss, their_output.loss, rtol=0, atol=TOLERANCE)

    our_output.loss.backward()
    their_output.loss.backward()
    our_parameters = dict(ours.named_parameters(remove_duplicate=False))
    their_parameters = dict(theirs.named_parameters(remove_duplicate=False))
    names = xlm_roberta_names(3)
    for our_name, their_name in names.items():
        torch.testing.assert_close(
            our_parameters[our_name].grad, their_parameters[their_name].grad, rtol=0, atol=TOLERANCE, msg=our_name
        )
    ours_alone = {name for name in our_parameters if ".cross_attention" not in name} - set(names)
    assert ours_alone == {"lm_head.decoder.weight"}, "everything else was compared; this one is tied to the embedding"
    theirs_alone = set(their_parameters) - set(names.values())
    assert theirs_alone == {
        "lm_head.decoder.weight",
        "lm_head.decoder.bias",
        "roberta.embeddings.token_type_embeddings.weight",
    }


def test_veco_from_xlm_roberta_equals_it(xlm_roberta, padded_batch) -> None:
    assert_equal(from_xlm_roberta(xlm_roberta), xlm_roberta, *padded_batch)


def test_xlm_roberta_from_veco_equals_it(veco, padded_batch) -> None:
    converted = to_xlm_roberta(veco)
    assert converted.roberta.embeddings.token_type_embeddings.weight.abs().sum() == 0
    assert_equal(veco, converted, *padded_batch)


def test_round_trip_changes_no_weight(veco) -> None:
    again = from_xlm_roberta(to_xlm_roberta(veco))
    expected = veco.state_dict()
    for name, weight in again.state_dict().items():
        assert ".cross_attention" in name or torch.equal(weight, expected[name]), name


def test_directories_convert_like_models(xlm_roberta, veco, padded_batch, tmp_path: Path) -> None:
    ids, mask = padded_batch
    xlm_roberta.save_pretrained(tmp_path / "xlm-r")
    veco.save_pretrained(tmp_path / "veco")
    from_directory, from_model = from_xlm_roberta(tmp_path / "xlm-r"), from_xlm_roberta(xlm_roberta)
    torch.testing.assert_close(from_directory(ids, mask).logits, from_model(ids, mask).logits, rtol=0, atol=0)
    to_directory, to_model = to_xlm_roberta(tmp_path / "veco"), to_xlm_roberta(veco)
    torch.testing.assert_close(to_directory(ids, mask).logits, to_model(ids, mask).logits, rtol=0, atol=0)


def test_pretraining_model_converts_as_its_masked_lm(veco, padded_batch) -> None:
    pretraining = VecoForPreTraining(veco.config)
    pretraining.load_state_dict(veco.state_dict())
    expected = to_xlm_roberta(veco)(*padded_batch).logits
    torch.testing.assert_close(to_xlm_roberta(pretraining)(*padded_batch).logits, expected, rtol=0, atol=0)


def test_token_type_is_added_in_float32(xlm_roberta) -> None:
    half = xlm_roberta.half()
    weights = half.state_dict()
    expected = (
        weights["roberta.embeddings.position_embeddings.weight"].float()
        + weights["roberta.embeddings.token_type_embeddings.weight"].float()
    )
    assert torch.equal(from_xlm_roberta(half).veco.embeddings.position_embeddings.weight, expected)


def test_conversion_to_xlm_roberta_keeps_the_precision(veco) -> None:
    assert {weight.dtype for weight in to_xlm_roberta(veco.bfloat16()).parameters()} == {torch.bfloat16}


def test_other_models_are_refused(xlm_roberta, veco, config) -> None:
    with pytest.raises(ValueError, match="expected an XLMRobertaForMaskedLM or its directory, found XLMRobertaModel"):
        from_xlm_roberta(xlm_roberta.roberta)
    with pytest.raises(ValueError, match="found a veco"):
        from_xlm_roberta(veco)
    with pytest.raises(ValueError, match="a VecoForPreTraining or a directory, found VecoModel"):
        to_xlm_roberta(VecoModel(config))


def test_xlm_roberta_xl_is_refused(tmp_path: Path) -> None:
    shape = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    model = XLMRobertaXLForMaskedLM(XLMRobertaXLConfig(vocab_size=20, max_position_embeddings=10, **shape))
    model.save_pretrained(tmp_path)
    for source in (model, tmp_path):
        with pytest.raises(ValueError, match="XL and XXL are pre-LayerNorm models, VECO is post-LayerNorm"):
            from_xlm_roberta(source)


def test_fairseq_models_that_xlm_roberta_cannot_express_are_refused(config) -> None:
    config.scale_embedding, config.lm_head_transform = True, False
    with pytest.raises(ValueError, match="scale_embedding True and lm_head_transform False"):
        to_xlm_roberta(VecoForMaskedLM(config))


def test_key_left_over_is_named(xlm_roberta, veco) -> None:
    xlm_roberta.roberta.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"does not have: roberta\.extra\.bias, roberta\.extra\.weight"):
        from_xlm_roberta(xlm_roberta)
    veco.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"does not have: extra\.bias, extra\.weight"):
        to_xlm_roberta(veco)


def test_directories_with_missing_or_extra_weights_are_refused(xlm_roberta, veco, config, tmp_path: Path) -> None:
    XLMRobertaModel(xlm_roberta.config).save_pretrained(tmp_path / "headless")
    with pytest.raises(ValueError, match=r"headless: lacks weights of XLMRobertaForMaskedLM: lm_head\.bias"):
        from_xlm_roberta(tmp_path / "headless")
    weights = {**xlm_roberta.state_dict(), "roberta.extra": torch.zeros(2)}
    xlm_roberta.save_pretrained(tmp_path / "more", state_dict=weights)
    with pytest.raises(ValueError, match=r"more: has weights that .* does not have: roberta\.extra"):
        from_xlm_roberta(tmp_path / "more")
    VecoForConditionalGeneration(config).save_pretrained(tmp_path / "translation")
    with pytest.raises(ValueError, match=r"translation: lacks weights .*cross_attention"):
        to_xlm_roberta(tmp_path / "translation")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected a model directory with a config\.json"):
        from_xlm_roberta(tmp_path / "empty")


def test_pooler_of_a_directory_is_ignored(xlm_roberta, padded_batch, tmp_path: Path) -> None:
    pooler = {f"roberta.pooler.dense.{kind}": torch.zeros(32) for kind in ("weight", "bias")}
    xlm_roberta.save_pretrained(tmp_path, state_dict={**xlm_roberta.state_dict(), **pooler})
    expected = from_xlm_roberta(xlm_roberta)(*padded_batch).logits
    torch.testing.assert_close(from_xlm_roberta(tmp_path)(*padded_batch).logits, expected, rtol=0, atol=0)


def test_untied_heads_are_refused(xlm_roberta, veco) -> None:
    xlm_roberta.lm_head.decoder.weight = torch.nn.Parameter(torch.zeros(60, 32))
    with pytest.raises(ValueError, match=r"lm_head\.decoder\.weight differs from roberta\.embeddings"):
        from_xlm_roberta(xlm_roberta)
    veco.lm_head.decoder.weight = torch.nn.Parameter(torch.zeros(60, 32))
    with pytest.raises(ValueError, match=r"lm_head\.decoder\.weight differs from veco\.embeddings"):
        to_xlm_roberta(veco)


def test_adapters_are_no_part_of_an_xlm_roberta(config: VecoConfig, padded_batch: tuple[Tensor, Tensor]) -> None:
    ours = VecoForMaskedLM(config).eval()
    attach_adapter(ours, "sw", AdapterConfig(invertible=True))
    with pytest.raises(ValueError, match=r"adapters \(sw\), for which XLM-R has no place: .* cannot be merged"):
        to_xlm_roberta(ours)
    activate_adapters(ours, [])
    ids, mask = padded_batch
    theirs = to_xlm_roberta(ours).eval()(ids, attention_mask=mask).logits
    torch.testing.assert_close(theirs[mask.bool()], ours(ids, mask).logits[mask.bool()], rtol=0, atol=1e-5)
