"""The feed-forward module, which keeps one tensor of its inner width for the backward pass instead of two."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from transformers.activations import ACT2FN

from veco.config import VecoConfig
from veco.tracing import is_traced


class FeedForward(nn.Module):
    """Two projections with the activation between them, position by position.

    The activated tensor is recomputed in the backward pass from its input, which the gradient of the activation needs
    anyway. That saves a seventh of the activations that a layer keeps on CPU, and a quarter where attention keeps no
    weights, at hardly any cost in time. A module that replaces `down_proj` benefits too.
    """

    # Set by transformers, as in every module that has it: the whole layer is then recomputed.
    gradient_checkpointing = False

    def __init__(self, config: VecoConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation: Callable[[Tensor], Tensor] = ACT2FN[config.hidden_act]
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Transformed states (B, T, D)."""
        inner = self.up_proj(x_BTD)
        activated = self.activation(inner)
        if is_traced() or self.gradient_checkpointing or not inner.requires_grad:
            return self.down_proj(activated)
        with recomputed_when_needed(activated, self.activation, inner.detach()):
            return self.down_proj(activated)


def recomputed_when_needed(
    activated: Tensor, activation: Callable[[Tensor], Tensor], inner: Tensor
) -> saved_tensors_hooks:
    """A context in which operations keep `inner` instead of `activated`, which is `activation(inner)`."""
    # Not the tensor itself: the hooks live as long as the tensors that they pack, and would keep it alive.
    address, count, dtype = activated.data_ptr(), activated.numel(), activated.dtype

    def pack(saved: Tensor) -> Tensor | torch.Size:
        """Replace `activated` by its shape; leave other tensors as they are."""
        is_activated = saved.data_ptr() == address and saved.numel() == count and saved.dtype == dtype
        return saved.shape if is_activated and saved.is_contiguous() else saved

    def unpack(packed: Tensor | torch.Size) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        with torch.no_grad():
            return activation(inner).view(packed)

    return saved_tensors_hooks(pack, unpack)
