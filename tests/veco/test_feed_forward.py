"""The same modules without recomputation are the oracle."""

import pytest
import torch
from products import Products
from torch.nn.functional import linear

from veco.feed_forward import FeedForward


def plainly(layer: FeedForward, x: torch.Tensor) -> torch.Tensor:
    down = layer.down_proj
    return linear(down.activation(layer.up_proj(x)), down.weight, down.bias)


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


def test_under_autocast_too(config) -> None:
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
    layer, x = FeedForward(config), torch.randn(7, 32)
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda t: t):
        layer(x)
    assert kept.count(torch.Size([7, config.intermediate_size])) == 1
