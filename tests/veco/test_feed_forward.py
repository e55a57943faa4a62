"""The oracle is the same modules without recomputation."""

import gc
import weakref

import pytest
import torch
from products import Products
from torch import nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from veco.feed_forward import FeedForward


def plainly(layer: FeedForward, x: torch.Tensor) -> torch.Tensor:
    down = layer.down_proj
    return linear(layer.activation(layer.up_proj(x)), down.weight, down.bias)


@pytest.mark.parametrize("shape", [(5, 32), (3, 4, 32)])
@pytest.mark.parametrize("activation", ["gelu", "relu", "silu"])
def test_outputs_and_gradients_are_those_of_plain_modules(config, activation: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    config.hidden_act = activation
    layer, x = FeedForward(config), torch.randn(shape, requires_grad=True)
    outputs = layer(x), plainly(layer, x)
    torch.testing.assert_close(*outputs)
    upstream = torch.randn_like(outputs[0])
    ours, theirs = (torch.autograd.grad(output, [x, *layer.parameters()], upstream) for output in outputs)
    for our_gradient, their_gradient in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our_gradient, their_gradient)


def test_outputs_and_gradients_are_the_same_under_autocast(config) -> None:
    torch.manual_seed(0)
    layer, x = FeedForward(config), torch.randn(6, 32)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = layer(x), plainly(layer, x)
    assert outputs[0].dtype == torch.bfloat16
    torch.testing.assert_close(*outputs)
    ours, theirs = (torch.autograd.grad(output.float().sum(), list(layer.parameters())) for output in outputs)
    for our_gradient, their_gradient in zip(ours, theirs, strict=True):
        assert our_gradient.dtype == torch.float32
        torch.testing.assert_close(our_gradient, their_gradient, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(("is_trained", "products"), [(True, 2), (False, 1)])
def test_backward_pass_has_no_product_for_frozen_weights(config, is_trained: bool, products: int) -> None:
    layer, x = FeedForward(config).requires_grad_(is_trained), torch.randn(7, 32, requires_grad=True)
    output = layer(x)
    with Products() as seen:
        output.sum().backward()
    assert seen.count == 2 * products, "of both projections"


def test_one_tensor_of_the_inner_width_is_kept(config) -> None:
    """The activated tensor is freed before the backward pass."""
    seen: list[weakref.ref[torch.Tensor]] = []

    class Watched(nn.GELU):
        def forward(self, inner: torch.Tensor) -> torch.Tensor:
            activated = super().forward(inner)
            seen.extend([weakref.ref(inner), weakref.ref(activated)])
            return activated

    layer, x = FeedForward(config), torch.randn(7, 32)
    layer.activation = Watched()
    output = layer(x)
    assert seen[1]() is None, "while its graph lives on"
    output.sum().backward()
    assert len(seen) == 4, "computed again"


def test_projection_can_be_replaced_by_any_module(config) -> None:
    """Low-rank adapters and quantisers do so: their module gets the projection's input."""
    layer, x = FeedForward(config), torch.randn(7, 32, requires_grad=True)
    expected = layer(x)
    (expected_gradient,) = torch.autograd.grad(expected.sum(), x)
    layer.down_proj = nn.Sequential(nn.Dropout(0.0), layer.down_proj)
    assert type(layer.down_proj[1]) is nn.Linear
    output = layer(x)
    torch.testing.assert_close(output, expected, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    torch.testing.assert_close(gradient, expected_gradient)


def test_no_tensor_is_recomputed_twice_if_whole_layers_are_recomputed(config) -> None:
    layer, x = FeedForward(config), torch.randn(7, 32, requires_grad=True)
    expected = torch.autograd.grad(layer(x).sum(), [x, *layer.parameters()])
    layer.gradient_checkpointing = True
    output = checkpoint(layer, x, use_reentrant=False)
    kept = [tensor for tensor in gc.get_objects() if isinstance(tensor, torch.Tensor)]
    assert not [tensor for tensor in kept if tensor.shape == (7, config.intermediate_size)]
    for ours, theirs in zip(torch.autograd.grad(output.sum(), [x, *layer.parameters()]), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
