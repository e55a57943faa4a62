"""Models whose weights accelerate keeps partly on disk, and XLM-R's own class as control."""

from __future__ import annotations

import copy
from pathlib import Path

import accelerate
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    XLMRobertaForMaskedLM,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

from veco import (
    VecoConfig,
    VecoForConditionalGeneration,
    VecoForMaskedLM,
    VecoForSequenceClassification,
    VecoModel,
)
from veco.convert.encoders import encoder_config
from veco.convert.xlm_roberta import XLM_ROBERTA

LAYERS = ("VecoLayer", "XLMRobertaLayer")
DISPATCHERS = ("dispatch_model", "load_checkpoint_and_dispatch", "from_pretrained")
CONTROLS = {
    VecoModel: XLMRobertaModel,
    VecoForMaskedLM: XLMRobertaForMaskedLM,
    VecoForSequenceClassification: XLMRobertaForSequenceClassification,
}


def made(model_class: type, who: str, config: VecoConfig) -> PreTrainedModel:
    """A model of ours or its control, of one shape, for evaluation."""
    torch.manual_seed(0)
    if who == "ours":
        return model_class(config).eval()
    return CONTROLS[model_class](encoder_config(config, XLM_ROBERTA)).eval()


def on_cpu_and_disk(model: nn.Module) -> dict[str, str]:
    """A device map with every second layer on disk; weights tied to each other share a device, as accelerate asks."""
    device_map: dict[str, str] = {}
    for name, module in model.named_modules():
        is_within_another = any(name.startswith(f"{known}.") for known in device_map)
        has_layers = any(type(part).__name__ in LAYERS for part in module.modules())
        if name and not is_within_another and not has_layers:
            device_map[name] = "cpu"
        if type(module).__name__ in LAYERS:
            device_map[name] = "disk" if int(name.rsplit(".")[-1]) % 2 else "cpu"
    return device_map


def dispatched(model: PreTrainedModel, by: str, directory: Path) -> PreTrainedModel:
    """The same model with its weights on CPU and disk, dispatched by one of DISPATCHERS."""
    device_map, offloaded = on_cpu_and_disk(model), directory / "offloaded"
    if by == "dispatch_model":
        return accelerate.dispatch_model(copy.deepcopy(model), device_map, main_device="cpu", offload_dir=offloaded)
    model.save_pretrained(directory / "model")
    if by == "from_pretrained":
        options = {"device_map": device_map, "offload_folder": offloaded}
        return type(model).from_pretrained(directory / "model", **options).eval()
    with accelerate.init_empty_weights():
        empty = type(model)(model.config)
    empty.tie_weights()
    return accelerate.load_checkpoint_and_dispatch(
        empty, directory / "model", device_map=device_map, offload_folder=offloaded
    ).eval()


@pytest.mark.parametrize("who", ["ours", "control"])
@pytest.mark.parametrize("by", DISPATCHERS)
@pytest.mark.parametrize("model_class", [VecoForMaskedLM, VecoForSequenceClassification])
def test_offloaded_model_computes_the_same(
    model_class: type, by: str, who: str, config: VecoConfig, padded_batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    model = made(model_class, who, config)
    found = dispatched(model, by, tmp_path)
    assert {weight.device.type for weight in found.parameters()} == {"cpu", "meta"}, "a part is on disk"
    ids, mask = padded_batch
    assert torch.equal(found(ids, mask).logits, model(ids, mask).logits)


@pytest.mark.parametrize("by", DISPATCHERS)
def test_offloaded_translation_model_computes_the_same(
    by: str, config: VecoConfig, padded_batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    config.decoder_start_token_id = 5
    torch.manual_seed(0)
    model = VecoForConditionalGeneration(config).eval()
    found = dispatched(model, by, tmp_path)
    assert {weight.device.type for weight in found.parameters()} == {"cpu", "meta"}, "a part is on disk"
    ids, mask = padded_batch
    assert torch.equal(found(ids, mask, labels=ids).logits, model(ids, mask, labels=ids).logits)
    options = {"attention_mask": mask, "num_beams": 3, "min_new_tokens": 6, "max_new_tokens": 6}
    assert torch.equal(found.generate(ids, **options), model.generate(ids, **options))


@pytest.mark.parametrize("who", ["ours", "control"])
def test_offloaded_embeddings_take_embedded_input(
    who: str, config: VecoConfig, padded_batch: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    model = made(VecoModel, who, config)
    embedded = model.get_input_embeddings()(padded_batch[0]).detach()
    expected = model(inputs_embeds=embedded)[0]
    found = accelerate.disk_offload(copy.deepcopy(model), tmp_path, execution_device=torch.device("cpu"))
    assert torch.equal(found(inputs_embeds=embedded)[0], expected)


def test_device_map_by_size_keeps_layers_whole(config: VecoConfig) -> None:
    """Residuals are added inside a layer, so it must not be split between devices."""
    model = VecoForSequenceClassification(config)
    layers = [name for name, module in model.named_modules() if type(module).__name__ == "VecoLayer"]
    half = sum(weight.numel() * weight.element_size() for weight in model.parameters()) // 2
    device_map = accelerate.infer_auto_device_map(
        model, max_memory={"cpu": half, "disk": 2 * half}, no_split_module_classes=model._no_split_modules
    )
    assert set(device_map.values()) == {"cpu", "disk"}
    assert not [name for name in device_map if any(name.startswith(f"{layer}.") for layer in layers)]
