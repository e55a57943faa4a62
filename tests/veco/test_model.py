from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM

from veco import VecoConfig, VecoForMaskedLM, VecoModel


@pytest.fixture
def model(config: VecoConfig) -> VecoModel:
    torch.manual_seed(1)
    return VecoModel(config).eval()


def test_padding_changes_no_state(model, padded_batch) -> None:
    ids, mask = padded_batch
    batched = model(ids, mask).last_hidden_state
    for row, length in enumerate((12, 7, 3)):
        alone = model(ids[row : row + 1, :length]).last_hidden_state
        torch.testing.assert_close(batched[row, :length], alone[0], rtol=0, atol=1e-5)


def test_padding_of_the_pair_changes_no_state(model, padded_batch) -> None:
    ids, mask = padded_batch
    h = model(ids, mask).last_hidden_state
    batched = model(ids, mask, encoder_hidden_states=h.flip(0), encoder_attention_mask=mask.flip(0)).last_hidden_state
    for row, length in enumerate((12, 7, 3)):
        pair = h[2 - row : 3 - row, : (12, 7, 3)[2 - row]]
        alone = model(ids[row : row + 1, :length], encoder_hidden_states=pair).last_hidden_state
        torch.testing.assert_close(batched[row, :length], alone[0], rtol=0, atol=1e-5)


def test_plugging_in_uses_the_pair(model, padded_batch) -> None:
    ids, mask = padded_batch
    h = model(ids, mask).last_hidden_state
    plugged = model(ids, mask, h, mask).last_hidden_state
    other = model(ids, mask, h.flip(0), mask.flip(0)).last_hidden_state
    assert (plugged - h).abs().max() > 0.1
    assert (plugged - other)[mask.bool()].abs().max() > 0.01


def test_s_is_h_with_one_more_norm_when_cross_attention_gives_nothing(model, padded_batch) -> None:
    ids, mask = padded_batch
    with torch.no_grad():
        for layer in model.layers:
            layer.cross_attention.out_proj.weight.zero_()
            layer.cross_attention.out_proj.bias.zero_()
    h = model(ids, mask).last_hidden_state
    s = model(ids, mask, h, mask).last_hidden_state
    # LayerNorm of a LayerNorm with unit weight and zero bias is itself, up to eps.
    torch.testing.assert_close(s, h, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.full((1, 5), 60), "between 60 and 60, expected 0 to 59"),
        (torch.full((1, 65), 5), "65 tokens, more than the 64"),
    ],
)
def test_bad_ids_are_refused(model, ids: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(ids)


def test_mask_of_another_shape_is_refused(model, padded_batch) -> None:
    ids, mask = padded_batch
    with pytest.raises(ValueError, match=r"attention_mask has shape \(3, 11\), expected \(3, 12\)"):
        model(ids, mask[:, 1:])
    with pytest.raises(ValueError, match=r"encoder_attention_mask has shape \(3, 11\)"):
        model(ids, mask, model(ids, mask).last_hidden_state, mask[:, 1:])


def test_saved_model_opens_by_auto_classes(config, padded_batch, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model = VecoForMaskedLM(config).eval()
    model.save_pretrained(tmp_path)
    ids, mask = padded_batch
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert isinstance(again, VecoForMaskedLM)
    torch.testing.assert_close(again(ids, mask).logits, model(ids, mask).logits, rtol=0, atol=0)
    bare = AutoModel.from_pretrained(tmp_path)
    torch.testing.assert_close(bare(ids, mask)[0], model.veco(ids, mask)[0], rtol=0, atol=0)
    assert again.lm_head.decoder.weight is again.veco.embeddings.word_embeddings.weight


def test_gradient_checkpointing_gives_the_same_gradients(config, padded_batch) -> None:
    ids, mask = padded_batch
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(4)
        model = VecoModel(config).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(ids, mask)[0].square().sum().backward()
        gradients.append(model.layers[0].feed_forward.up_proj.weight.grad)
    torch.testing.assert_close(*gradients)
