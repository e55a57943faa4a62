from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM

from veco import VecoConfig, VecoForMaskedLM, VecoModel
from veco.packing import rounded_up


@pytest.fixture
def model(config: VecoConfig) -> VecoModel:
    torch.manual_seed(1)
    return VecoModel(config).eval()


def test_plugged_in_states_depend_on_the_pair(model, padded_batch) -> None:
    ids, mask = padded_batch
    h = model(ids, mask).last_hidden_state
    plugged = model(ids, mask, encoder_hidden_states=h, encoder_attention_mask=mask).last_hidden_state
    other = model(ids, mask, encoder_hidden_states=h.flip(0), encoder_attention_mask=mask.flip(0)).last_hidden_state
    assert (plugged - h).abs().max() > 0.1
    assert (plugged - other)[mask.bool()].abs().max() > 0.01


@pytest.mark.parametrize("plugged_in", [False, True])
def test_skipping_padding_gives_the_same_states(model, padded_batch, plugged_in: bool, rounding: int) -> None:
    """In all layers, with zeros at padding; masked tokens in the middle of a row are skipped too."""
    ids, mask = padded_batch
    mask[0, 4:6] = 0
    pair = {"encoder_hidden_states": torch.randn(3, 9, 32), "encoder_attention_mask": mask[:, 3:].flip(0)}
    pair = pair if plugged_in else {}
    expected = model(ids, mask, **pair, output_hidden_states=True).hidden_states
    model.skip_padding = True
    assert tokens_of_first_layer(model, ids, mask, **pair) == [rounded_up(int(mask.sum()), rounding)]
    packed = model(ids, mask, **pair, output_hidden_states=True)
    assert len(packed.hidden_states) == len(expected) == 4
    for ours, theirs in zip(packed.hidden_states, expected, strict=True):
        torch.testing.assert_close(ours, theirs * mask[..., None], rtol=0, atol=1e-5)


def test_skipping_padding_gives_the_same_gradients(config, padded_batch, rounding: int) -> None:
    ids, mask = padded_batch
    pair = torch.randn(3, 9, 32, requires_grad=True)
    gradients = []
    for skips in (False, True):
        torch.manual_seed(4)
        model = VecoModel(config).train()
        model.skip_padding = skips
        states = model(ids, mask, encoder_hidden_states=pair, encoder_attention_mask=mask[:, 3:].flip(0))[0]
        pair.grad = None
        (states * mask[..., None]).square().sum().backward()
        gradients.append({"pair": pair.grad, **{n: p.grad for n, p in model.named_parameters()}})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_little_padding_is_not_skipped(model, padded_batch) -> None:
    ids, _ = padded_batch
    model.skip_padding = True
    mask = torch.ones_like(ids)
    assert tokens_of_first_layer(model, ids, mask) == [3]  # rows, not tokens
    mask[2, -1] = 0
    assert tokens_of_first_layer(model, ids, mask) == [3]


def tokens_of_first_layer(model: VecoModel, *arguments: torch.Tensor, **keywords: torch.Tensor) -> list[int]:
    """First dimension of the first layer's input: tokens if they are packed, else rows."""
    sizes: list[int] = []
    hook = model.layers[0].register_forward_hook(lambda _, __, output: sizes.append(len(output)))
    model(*arguments, **keywords)
    hook.remove()
    return sizes


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (torch.full((1, 5), 60), "between 60 and 60, expected 0 to 59"),
        (torch.full((1, 65), 5), "65 tokens, more than the 64"),
        (torch.tensor([0, 5, 2]), r"torch.int64 of shape \(3,\), expected integers of shape \(number of seq"),
        (torch.ones(1, 5), r"torch.float32 of shape \(1, 5\), expected integers"),
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
        model(
            ids,
            mask,
            encoder_hidden_states=model(ids, mask).last_hidden_state,
            encoder_attention_mask=mask[:, 1:],
        )


def test_paired_states_that_do_not_fit_are_refused(model, padded_batch) -> None:
    ids, mask = padded_batch
    with pytest.raises(ValueError, match="encoder_attention_mask without encoder_hidden_states"):
        model(ids, mask, encoder_attention_mask=mask)
    for shape in ((2, 12, 32), (3, 12, 16), (3, 32)):
        with pytest.raises(ValueError, match=r"encoder_hidden_states have shape .* expected \(3, pair's length, 32\)"):
            model(ids, mask, encoder_hidden_states=torch.zeros(shape))


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
