"""Adapters in every class of VECO: fresh, stacked, active or not, detached; what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import veco
from veco import (
    VecoConfig,
    VecoForConditionalGeneration,
    VecoForMaskedLM,
    VecoForMultipleChoice,
    VecoForPreTraining,
    VecoForQuestionAnswering,
    VecoForSequenceClassification,
    VecoForTokenClassification,
    VecoModel,
)
from veco.adapter_config import AdapterConfig
from veco.adapters import activate_adapters, attach_adapter, detach_adapter
from veco.adapters.attach import active_adapters, adapter_of, adapters_of, parameters_of

CLASSES = [
    VecoModel,
    VecoForMaskedLM,
    VecoForPreTraining,
    VecoForSequenceClassification,
    VecoForTokenClassification,
    VecoForQuestionAnswering,
    VecoForMultipleChoice,
    VecoForConditionalGeneration,
]
BOTH = [AdapterConfig("pfeiffer", 4, invertible=True), AdapterConfig("houlsby", 8)]


def output_of(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """The first output of a model of any class."""
    if isinstance(model, VecoForPreTraining):
        labels = torch.where(ids.eq(9), ids, -100)
        given = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return model(**given, **{f"pair_{name}": tensor for name, tensor in given.items()}).loss
    if isinstance(model, VecoForConditionalGeneration):
        return model(ids, mask, decoder_input_ids=ids).logits
    if isinstance(model, VecoForMultipleChoice):
        ids, mask = ids[:, None].repeat(1, 2, 1), mask[:, None].repeat(1, 2, 1)
    return model(input_ids=ids, attention_mask=mask)[0]


def change(model: Any, name: str) -> None:
    """Give an adapter weights that do something."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in parameters_of(model, name).values():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))


@pytest.mark.parametrize("model_class", CLASSES)
def test_fresh_ones_change_nothing_and_an_inactive_one_does_nothing(
    model_class: type, config: VecoConfig, padded_batch: tuple[Tensor, Tensor]
) -> None:
    ids, mask = padded_batch
    ids[:, 1] = 9
    torch.manual_seed(1)
    model = model_class(config).eval()
    before = output_of(model, ids, mask)
    own = set(model.state_dict())
    for name, adapter in zip(("language", "task"), BOTH, strict=True):
        attach_adapter(model, name, adapter)
        torch.testing.assert_close(output_of(model, ids, mask), before, rtol=0, atol=0)
    assert active_adapters(model) == ["language", "task"] and adapters_of(model)["task"] == BOTH[1]
    change(model, "language")
    assert not torch.allclose(output_of(model, ids, mask), before)
    activate_adapters(model, ["task"])
    torch.testing.assert_close(output_of(model, ids, mask), before, rtol=0, atol=0)
    for name in ("language", "task"):
        detach_adapter(model, name)
    assert set(model.state_dict()) == own and not adapters_of(model) and not active_adapters(model)


def test_a_model_is_saved_and_opened_with_its_adapters(
    config: VecoConfig, padded_batch: tuple[Tensor, Tensor], tmp_path: Any
) -> None:
    model = VecoForMaskedLM(config).eval()
    for name, adapter in zip(("language", "task"), BOTH, strict=True):
        attach_adapter(model, name, adapter)
        change(model, name)
    activate_adapters(model, ["task", "language"])
    expected = model(*padded_batch).logits
    model.save_pretrained(tmp_path / "model")
    opened = VecoForMaskedLM.from_pretrained(tmp_path / "model").eval()
    torch.testing.assert_close(opened(*padded_batch).logits, expected, rtol=0, atol=0)
    activate_adapters(opened, [])
    assert not torch.allclose(opened(*padded_batch).logits, expected)
    # A translation model takes the adapters of its layers, and its decoder copies of them.
    translator = VecoForConditionalGeneration.from_veco(model, decoder_layers=2)
    assert active_adapters(translator) == ["task", "language"]
    ours, theirs = model.veco.layers[1].feed_forward_adapters["task"], translator.decoder.layers[0]
    assert torch.equal(theirs.feed_forward_adapters["task"].up_proj.weight, ours.up_proj.weight)


def test_a_missing_adapter_of_a_checkpoint_is_drawn_fresh(
    config: VecoConfig, padded_batch: tuple[Tensor, Tensor], tmp_path: Any
) -> None:
    model = VecoForMaskedLM(config).eval()
    model.save_pretrained(tmp_path / "model")
    described = copy.deepcopy(config)
    described.adapters, described.active_adapters = {"new": BOTH[0].to_dict()}, ["new"]
    opened = VecoForMaskedLM.from_pretrained(tmp_path / "model", config=described).eval()
    torch.testing.assert_close(opened(*padded_batch).logits, model(*padded_batch).logits, rtol=0, atol=0)
    assert opened.veco.layers[0].feed_forward_adapters["new"].down_proj.weight.std() > 0.05


def test_gradients_reach_the_adapter_through_a_frozen_body(
    config: VecoConfig, padded_batch: tuple[Tensor, Tensor]
) -> None:
    model = VecoForMaskedLM(config)
    attach_adapter(model, "sw", AdapterConfig("houlsby", 4, invertible=True))
    change(model, "sw")
    for name, weight in model.named_parameters():
        weight.requires_grad_(adapter_of(name) == "sw")
    model(*padded_batch, labels=padded_batch[0]).loss.backward()
    learns = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert learns == set(parameters_of(model, "sw")) and len(learns) == 3 * 2 * 4 + 8


def test_a_name_may_look_like_that_of_a_place(config: VecoConfig) -> None:
    model = VecoForMaskedLM(config)
    attach_adapter(model, "my_adapters", AdapterConfig("houlsby", 4, invertible=True))
    attach_adapter(model, "sw", AdapterConfig("pfeiffer", 4))
    names = {adapter_of(name) for name, _ in model.named_parameters()}
    assert names == {None, "my_adapters", "sw"} and len(parameters_of(model, "my_adapters")) == 3 * 2 * 4 + 8


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["fr"], "no adapter fr; there are: sw"),
        (["sw", "sw"], "active adapters sw, sw: expected each once"),
    ],
)
def test_stacks_that_cannot_be(config: VecoConfig, names: list[str], message: str) -> None:
    model = VecoModel(config)
    attach_adapter(model, "sw", BOTH[0])
    with pytest.raises(ValueError, match=message):
        activate_adapters(model, names)
    with pytest.raises(ValueError, match="has an adapter sw already"):
        attach_adapter(model, "sw", BOTH[1])
    with pytest.raises(ValueError, match="no adapter fr"):
        detach_adapter(model, "fr")
    assert active_adapters(model) == ["sw"]


@pytest.mark.parametrize("name", ["", "a.b", "2nd", "a b"])
def test_names_that_no_module_can_have(config: VecoConfig, name: str) -> None:
    with pytest.raises(ValueError, match="expected a letter and then letters"):
        attach_adapter(VecoModel(config), name, BOTH[0])


def test_names_of_what_modules_have_are_taken(config: VecoConfig) -> None:
    """Such as `to`, `type` and `keys`: no module may be called so."""
    model = VecoModel(config)
    taken = [name for name in dir(model.layers[0].feed_forward_adapters) if not name.startswith("_")]
    assert {"to", "type", "train", "training", "float", "add", "active", "kinds", "keys"} <= {*taken}
    for name in taken:
        with pytest.raises(ValueError, match=rf"^adapter name '{name}': taken"):
            attach_adapter(model, name, BOTH[0])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "lora"}, "kind 'lora' must be one of pfeiffer, houlsby"),
        ({"reduction": 0}, "reduction 0 must be a whole number and at least 1"),
        ({"invertible": "yes"}, "invertible 'yes' must be true or false"),
        ({"layers": 0}, "layers 0 must be a whole number and at least 1"),
        ({"reducton": 4}, "expected an adapter's kind, reduction, invertible, invertible_reduction, layers, found"),
        (3, "found 3"),
    ],
)
def test_configurations_that_are_none(config: VecoConfig, values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VecoConfig(adapters={"sw": values})
    with pytest.raises(ValueError, match=message):
        AdapterConfig.of(values, "a file")


def test_configurations_that_contradict_themselves() -> None:
    one = {"sw": BOTH[0].to_dict()}
    for fields, message in (
        ({"active_adapters": ["sw"]}, "no adapter sw; there are: none"),
        ({"adapters": one, "active_adapters": "sw"}, "be a list of names"),
        ({"adapters": one, "hidden_size": 9, "num_attention_heads": 3}, "width 9 is odd"),
        ({"adapters": one, "separate_decoder_embeddings": True}, "one embedding of encoder and decoder"),
    ):
        with pytest.raises(ValueError, match=message):
            VecoConfig(**fields)


def test_a_model_without_a_place_for_adapters_is_refused() -> None:
    from transformers import BertConfig, BertModel

    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    with pytest.raises(ValueError, match="a bert has no place for adapters; expected a VECO"):
        attach_adapter(BertModel(BertConfig(vocab_size=9, **shape)), "sw", BOTH[0])


def test_the_names_of_users() -> None:
    assert set(veco.adapters.__all__) <= set(vars(veco.adapters))
