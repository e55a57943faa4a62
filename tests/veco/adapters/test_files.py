"""Adapters in files: saved, loaded, swapped; files and models that do not fit each other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from veco import VecoConfig, VecoForMaskedLM, VecoForSequenceClassification, VecoModel
from veco.adapter_config import AdapterConfig
from veco.adapters import activate_adapters, attach_adapter, detach_adapter, load_adapter, save_adapter
from veco.adapters.attach import active_adapters, adapters_of, parameters_of

Batch = tuple[Tensor, Tensor]


def with_adapter(model: Any, name: str, seed: int, **fields: Any) -> Any:
    """The model with one more adapter, whose weights do something."""
    attach_adapter(model, name, AdapterConfig(**{"reduction": 4, "invertible": True, **fields}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in parameters_of(model, name).values():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    return model


@pytest.fixture
def model(config: VecoConfig) -> VecoForMaskedLM:
    torch.manual_seed(0)
    return VecoForMaskedLM(config).eval()


@pytest.fixture
def saved(model: VecoForMaskedLM, tmp_path: Path) -> Path:
    """The adapter sw of `model`, which then has none."""
    save_adapter(with_adapter(model, "sw", seed=1), "sw", tmp_path / "sw")
    detach_adapter(model, "sw")
    return tmp_path / "sw"


def test_a_swapped_adapter_equals_the_model_trained_with_it(
    model: VecoForMaskedLM, padded_batch: Batch, tmp_path: Path
) -> None:
    """Two languages below one task, exchanged in files and by name."""
    plain = model(*padded_batch).logits
    expected = {}
    with_adapter(model, "task", seed=9, kind="houlsby", invertible=False)
    for number, name in enumerate(("sw", "tr")):
        with_adapter(model, name, seed=number)
        activate_adapters(model, [name, "task"])
        expected[name] = model(*padded_batch).logits
    for name in ("sw", "tr", "task"):
        save_adapter(model, name, tmp_path / name)
        detach_adapter(model, name)
    torch.testing.assert_close(model(*padded_batch).logits, plain, rtol=0, atol=0)
    assert load_adapter(model, tmp_path / "sw") == "sw"
    assert load_adapter(model, tmp_path / "task", "of_the_task") == "of_the_task"
    assert active_adapters(model) == ["sw", "of_the_task"]
    torch.testing.assert_close(model(*padded_batch).logits, expected["sw"], rtol=0, atol=0)
    detach_adapter(model, "sw")
    load_adapter(model, tmp_path / "tr")
    activate_adapters(model, ["tr", "of_the_task"])
    torch.testing.assert_close(model(*padded_batch).logits, expected["tr"], rtol=0, atol=0)
    assert not torch.allclose(expected["sw"], expected["tr"])


def test_it_goes_from_class_to_class_and_precision(
    model: VecoForMaskedLM, saved: Path, padded_batch: Batch, tmp_path: Path
) -> None:
    """The encoder of a classifier, bare or in bfloat16, has the same fingerprint."""
    load_adapter(model, saved)
    states = model.veco(*padded_batch)[0]
    detach_adapter(model, "sw")
    model.save_pretrained(tmp_path / "model")
    classifier = VecoForSequenceClassification.from_pretrained(tmp_path / "model").eval()
    load_adapter(classifier, saved)
    torch.testing.assert_close(classifier.veco(*padded_batch)[0], states)
    bare = VecoModel.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    load_adapter(bare, saved)
    assert {weight.dtype for weight in parameters_of(bare, "sw").values()} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_adapter_knows_its_model_in_either_precision(
    model: VecoForMaskedLM, saved: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    """Made in float32 it goes into the model of 16 bits, and made in that one, or in its copy, into the original."""
    model.save_pretrained(tmp_path / "model")
    small = VecoForMaskedLM.from_pretrained(tmp_path / "model", dtype=dtype)
    load_adapter(small, saved)
    save_adapter(small, "sw", tmp_path / "of_small")
    load_adapter(model, tmp_path / "of_small", "again")
    copy = VecoForMaskedLM.from_pretrained(tmp_path / "model", dtype=dtype).float()
    save_adapter(with_adapter(copy, "tr", seed=2), "tr", tmp_path / "of_copy")
    load_adapter(model, tmp_path / "of_copy")
    assert active_adapters(model) == ["again", "tr"]


def test_an_adapter_of_an_earlier_version_is_known(model: VecoForMaskedLM, saved: Path) -> None:
    """It had the fingerprint in bfloat16 alone."""
    body = json.loads((saved / "adapter_config.json").read_text())["body"]
    edited(saved, body=body["bfloat16"])
    load_adapter(model, saved)
    edited(saved, body=body["float16"])
    detach_adapter(model, "sw")
    with pytest.raises(ValueError, match="was trained in a model with other weights"):
        load_adapter(model, saved)


def test_exchanged_token_embeddings_are_no_other_model(model: VecoForMaskedLM, saved: Path) -> None:
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()
    load_adapter(model, saved)


def edited(directory: Path, **content: Any) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **content}))


def test_an_adapter_of_another_model_is_refused_and_leaves_no_trace(
    model: VecoForMaskedLM, saved: Path, config: VecoConfig
) -> None:
    def problem(other: Any) -> str:
        with pytest.raises(ValueError) as error:
            load_adapter(other, saved)
        assert not adapters_of(other) and not [name for name, _ in other.named_parameters() if "_adapters." in name]
        return str(error.value)

    wider = VecoModel(VecoConfig(**{**config.to_dict(), "hidden_size": 64}))
    assert problem(wider) == f"{saved}: the adapter is of a model with hidden_size 32, this one has 64"
    assert "was trained in a model with other weights" in problem(VecoForMaskedLM(config))
    edited(saved, adapter={"kind": "houlsby", "reduction": 4, "invertible": True})
    assert problem(model).endswith("adapter.safetensors: lacks layers.0.self_attention_adapters.down_proj.bias")
    edited(saved, adapter={"kind": "pfeiffer", "reduction": 4})
    assert "has embeddings.invertible_adapters.first.down_proj.bias, for which the model has no" in problem(model)
    edited(saved, adapter={"kind": "pfeiffer", "reduction": 8, "invertible": True})
    assert "feed_forward_adapters.down_proj.bias has shape (8,), expected (4,)" in problem(model)
    edited(saved, adapter={"kind": "prefix"})
    assert "adapter_config.json: adapter: kind 'prefix' must be one of pfeiffer, houlsby" in problem(model)
    edited(saved, model={})
    assert "not the file of an adapter of VECO" in problem(model)


def test_directories_without_an_adapter(model: VecoForMaskedLM, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absent: expected the directory of an adapter, but no such directory"):
        load_adapter(model, tmp_path / "absent")
    with pytest.raises(ValueError, match=r"expected the directory of an adapter, but it has no adapter_config\.json"):
        load_adapter(model, tmp_path)
    half = tmp_path / "half"
    shutil.copytree(saved, half)
    (half / "adapter.safetensors").write_bytes((saved / "adapter.safetensors").read_bytes()[:-9])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_adapter(model, half)
    (half / "adapter.safetensors").unlink()
    with pytest.raises(ValueError, match="no such file, but adapter_config"):
        load_adapter(model, half)
    load_adapter(model, saved)
    with pytest.raises(ValueError, match="exists already"):
        save_adapter(model, "sw", saved)
    with pytest.raises(ValueError, match="no adapter fr"):
        save_adapter(model, "fr", tmp_path / "fr")
