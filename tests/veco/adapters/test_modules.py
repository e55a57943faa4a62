"""Bottlenecks and couplings against the formulas of their papers, written out in float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from veco import VecoConfig, VecoForConditionalGeneration, VecoForMaskedLM, VecoModel
from veco.adapter_config import HOULSBY, PFEIFFER, AdapterConfig
from veco.adapters import activate_adapters, attach_adapter
from veco.adapters.modules import Coupling
from veco.attention import PackedMask
from veco.layer import VecoLayer

INVERSE_TOLERANCE = 1e-6  # float32


def relu(x: Tensor) -> Tensor:
    return x * (x > 0)


def swish(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def linear(module: nn.Linear, x: Tensor) -> Tensor:
    return x @ module.weight.T + module.bias


def norm(module: nn.LayerNorm, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + module.eps).sqrt() * module.weight + module.bias


def adapted(h: Tensor, x: Tensor, layer_norm: nn.LayerNorm, adapters: nn.ModuleDict, stack: list[str]) -> Tensor:
    """h + U relu(D LN(x + h)) of Pfeiffer's, h + U swish(D h) of Houlsby's, one on top of the other."""
    for name in stack:
        if name in adapters:
            one = adapters[name]
            inner = relu(linear(one.down_proj, norm(layer_norm, x + h))) if one.reads_normed else None
            inner = swish(linear(one.down_proj, h)) if inner is None else inner
            h = h + linear(one.up_proj, inner)
    return h


def expected(layer: VecoLayer, x: Tensor, stack: list[str]) -> Tensor:
    """A plugged-out layer, without dropout and mask."""
    h = layer.self_attention(x)
    h = adapted(h, x, layer.self_attention_norm, layer.self_attention_adapters, stack)
    x = norm(layer.self_attention_norm, x + h)
    h = adapted(layer.feed_forward(x), x, layer.feed_forward_norm, layer.feed_forward_adapters, stack)
    return norm(layer.feed_forward_norm, x + h)


def randomised(model: nn.Module) -> nn.Module:
    """The model with weights of all its adapters that do something."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "_adapters." in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return model


@pytest.fixture
def model(config: VecoConfig) -> VecoForMaskedLM:
    """Two languages, one of each kind, and a task."""
    torch.manual_seed(0)
    model = VecoForMaskedLM(config).double().eval()
    attach_adapter(model, "sw", AdapterConfig(PFEIFFER, reduction=4, invertible=True))
    attach_adapter(model, "de", AdapterConfig(HOULSBY, reduction=2, invertible=True))
    attach_adapter(model, "task", AdapterConfig(PFEIFFER))
    randomised(model)
    return model


@pytest.mark.parametrize("stack", [[], ["sw"], ["de"], ["sw", "task"], ["task", "sw"], ["de", "task"]])
def test_a_layer_equals_the_formulas_in_the_order_of_the_stack(model: VecoForMaskedLM, stack: list[str]) -> None:
    activate_adapters(model, stack)
    x = torch.randn(2, 5, 32, dtype=torch.float64)
    layer = model.veco.layers[1]
    torch.testing.assert_close(layer(x), expected(layer, x, stack), rtol=0, atol=1e-12)


def test_the_order_of_a_stack_matters(model: VecoForMaskedLM) -> None:
    x, layer = torch.randn(2, 5, 32, dtype=torch.float64), model.veco.layers[0]
    assert (expected(layer, x, ["sw", "task"]) - expected(layer, x, ["task", "sw"])).abs().max() > 1e-3


def test_places_of_the_kinds_and_their_sizes(model: VecoForMaskedLM) -> None:
    layer = model.veco.layers[0]
    assert set(layer.self_attention_adapters) == {"de"}
    assert set(layer.feed_forward_adapters) == {"sw", "de", "task"}
    assert set(model.veco.embeddings.invertible_adapters) == {"sw", "de"}
    assert layer.feed_forward_adapters["sw"].down_proj.weight.shape == (8, 32)
    assert layer.feed_forward_adapters["task"].down_proj.weight.shape == (2, 32)
    assert model.veco.embeddings.invertible_adapters["sw"].first.down_proj.weight.shape == (8, 16)


@pytest.mark.parametrize("which", ["first", "last"])
def test_one_that_skips_the_last_layer_has_nothing_there(config: VecoConfig, which: str, tmp_path: Path) -> None:
    """MAD-X 2.0; in a decoder of one layer, too, where that is the encoder's last one."""
    model = VecoForMaskedLM(config)
    attach_adapter(model, "sw", AdapterConfig(HOULSBY, invertible=True, layers=config.num_hidden_layers - 1))
    for place in ("self_attention_adapters", "feed_forward_adapters"):
        has_one = ["sw" in getattr(layer, place) for layer in model.veco.layers]
        assert has_one == [True] * (config.num_hidden_layers - 1) + [False]
    x = torch.randn(2, 5, 32)
    torch.testing.assert_close(model.veco.layers[-1](x), expected(model.veco.layers[-1], x, []), rtol=0, atol=1e-5)
    randomised(model).save_pretrained(tmp_path)
    opened = VecoForMaskedLM.from_pretrained(tmp_path)
    assert all(torch.equal(weight, opened.state_dict()[name]) for name, weight in model.state_dict().items())
    shallow = VecoModel.from_pretrained(tmp_path, num_hidden_layers=1)
    assert "sw" in shallow.layers[0].feed_forward_adapters, "as sentence-transformers opens what was exported"
    translator = VecoForConditionalGeneration.from_veco(model, 1, which)
    assert ("sw" in translator.decoder.layers[0].feed_forward_adapters) == (which == "first")


@pytest.mark.parametrize("kind", [PFEIFFER, HOULSBY])
def test_a_coupling_equals_nice_and_its_inverse(kind: str) -> None:
    act: Callable[[Tensor], Tensor] = relu if kind == PFEIFFER else swish
    torch.manual_seed(2)
    coupling = Coupling(AdapterConfig(kind, invertible=True), 16)
    states = torch.randn(3, 7, 16)
    with torch.no_grad():
        for weight in coupling.parameters():
            weight.normal_(std=0.5)
        changed = coupling(states)
        x1, x2 = states[..., :8], states[..., 8:]
        f, g = coupling.first, coupling.second
        y1 = x1 + linear(f.up_proj, act(linear(f.down_proj, x2)))
        y2 = x2 + linear(g.up_proj, act(linear(g.down_proj, y1)))
        torch.testing.assert_close(changed, torch.cat([y1, y2], -1), rtol=0, atol=1e-5)
        assert (changed - states).abs().max() > 0.1
        assert (coupling(changed, inverse=True) - states).abs().max() < INVERSE_TOLERANCE
    volume = torch.autograd.functional.jacobian(coupling.double(), states[0, 0].double())
    assert torch.linalg.det(volume).item() == pytest.approx(1, abs=1e-9), "it preserves volume"


def test_the_lowest_invertible_adapter_of_a_stack_is_at_the_embeddings_and_inverted_at_the_head(
    model: VecoForMaskedLM, padded_batch: tuple[Tensor, Tensor]
) -> None:
    ids, mask = padded_batch
    activate_adapters(model, [])
    before = model.veco(ids, mask, output_hidden_states=True).hidden_states[0]
    states = torch.randn(2, 4, 32, dtype=torch.float64)
    head = model.lm_head
    for stack, lowest in ([["task", "sw", "de"], "sw"], [["de", "sw"], "de"]):
        activate_adapters(model, stack)
        coupling = model.veco.embeddings.invertible_adapters[lowest]
        found = model.veco(ids, mask, output_hidden_states=True).hidden_states[0]
        torch.testing.assert_close(found, coupling(before))
        logits = linear(head.decoder, coupling(head.norm(head.activation(head.dense(states))), inverse=True))
        torch.testing.assert_close(head(states), logits)
        targets = torch.tensor([5, 6, 7, 8])
        losses, _ = head(states[0], targets)
        torch.testing.assert_close(losses.double(), -logits[0].log_softmax(-1)[range(4), targets], rtol=0, atol=1e-5)
        assert torch.equal(head(states[0], only_best=True), logits[0].argmax(-1))


def test_packed_tokens_have_the_states_of_padded_ones(
    model: VecoForMaskedLM, padded_batch: tuple[Tensor, Tensor], pair_batch: tuple[Tensor, Tensor]
) -> None:
    """Plugged out and plugged in."""
    activate_adapters(model, ["de", "task"])
    (ids, mask), (pair_ids, pair_mask) = padded_batch, pair_batch
    for pair in (
        {},
        {"encoder_hidden_states": model.veco(pair_ids, pair_mask)[0], "encoder_attention_mask": pair_mask},
    ):
        padded = model.veco(ids, mask, **pair)[0]
        model.veco.skip_padding = True
        packed = model.veco(ids, mask, **pair)[0]
        model.veco.skip_padding = False
        torch.testing.assert_close(packed[mask.bool()], padded[mask.bool()], rtol=0, atol=1e-10)
        assert not packed[~mask.bool()].any(), "it was packed"


def test_plugged_in_both_paths_have_the_same_adapters_and_cross_attention_none(model: VecoForMaskedLM) -> None:
    layer, generator = model.veco.layers[2], torch.Generator().manual_seed(4)
    x, pair = torch.randn(2, 1, 6, 32, dtype=torch.float64, generator=generator)
    activate_adapters(model, ["de"])
    h = adapted(layer.self_attention(x), x, layer.self_attention_norm, layer.self_attention_adapters, ["de"])
    own = norm(layer.self_attention_norm, x + h)
    own = norm(layer.cross_attention_norm, own + layer.cross_attention(own, pair))
    h = adapted(layer.feed_forward(own), own, layer.feed_forward_norm, layer.feed_forward_adapters, ["de"])
    torch.testing.assert_close(layer(x, None, pair), norm(layer.feed_forward_norm, own + h), rtol=0, atol=1e-12)
    assert not [name for name, _ in layer.named_parameters() if "cross_attention_adapters" in name]
    lengths = (4, 2)
    packed = layer(x[0], PackedMask(lengths, lengths))
    torch.testing.assert_close(packed[:4], layer(x[:, :4])[0], rtol=0, atol=1e-10)
