"""The feed-forward module, which keeps one tensor of its inner width for the backward pass, not two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.activations import ACT2FN

from veco.config import VecoConfig
from veco.projection import computing_dtype


class FeedForward(nn.Module):
    """Two projections with the activation between them, position by position."""

    def __init__(self, config: VecoConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = ActivatedLinear(config.intermediate_size, config.hidden_size, ACT2FN[config.hidden_act])

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Transformed states, (B, T, D)."""
        return self.down_proj(self.up_proj(x_BTD))


class ActivatedLinear(nn.Linear):
    """`nn.Linear` of the activated input. The activation is computed again in the backward pass.

    With its input kept, the activated tensor need not be: a seventh of what a layer keeps on CPU, a quarter where
    attention keeps no weights, for hardly any time.
    """

    def __init__(self, in_features: int, out_features: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__(in_features, out_features)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(..., out_features) of x (..., in_features)."""
        if torch.compiler.is_compiling():  # a compiler decides itself what it keeps
            return linear(self.activation(x), self.weight, self.bias)
        dtype = computing_dtype(self.weight)
        return _ActivatedLinear.apply(x.to(dtype), self.weight.to(dtype), self.bias.to(dtype), self.activation)


class _ActivatedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.activation = activation
        with torch.autocast(x.device.type, enabled=False):
            return linear(activation(x), weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        _, needs_weight, needs_bias, _ = ctx.needs_input_grad  # neither, while the cross-attention alone is trained
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            activated = ctx.activation(x)
        (grad_x,) = torch.autograd.grad(activated, x, grad @ weight)
        rows = grad.flatten(0, -2)
        grad_weight = rows.t() @ activated.detach().flatten(0, -2) if needs_weight else None
        return grad_x, grad_weight, rows.sum(0) if needs_bias else None, None
