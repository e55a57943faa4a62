"""The projection on the vocabulary, with a cross-entropy that never holds the logits of all positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

# Positions whose logits exist at a time: enough for matrix products at full speed, 1 GB of float32 at 250,002 pieces.
CHUNK_POSITIONS = 1024
# Logits turned into float32 at a time on CPU; larger fresh tensors cost page faults.
BLOCK_LOGITS = 2**21


class VocabularyProjection(nn.Linear):
    """`nn.Linear` to the vocabulary that also gives the cross-entropy of targets, in bounded memory.

    Chunks are made in here and not by the caller: under ZeRO-3 every call of a module gathers its weights from all
    ranks, so all ranks must make equally many, but they predict different numbers of tokens.
    """

    def forward(self, states: Tensor, targets: Tensor | None = None) -> Tensor:
        """Logits (..., V) of states (..., D); with `targets` (N,) the float32 cross-entropies (N,) of states (N, D)."""
        if targets is None:
            return super().forward(states)
        device = states.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self.weight.dtype
        return ProjectedCrossEntropy.apply(states.to(dtype), self.weight.to(dtype), self.bias.to(dtype), targets)


class ProjectedCrossEntropy(torch.autograd.Function):
    """-log softmax(states @ weight.T + bias)[target] of each state, computed again in the backward pass by chunks."""

    @staticmethod
    def forward(ctx: Any, states_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, targets_N: Tensor) -> Tensor:
        losses, normalisers = [], []
        with torch.autocast(states_ND.device.type, enabled=False):
            for states, targets in zip(states_ND.split(CHUNK_POSITIONS), targets_N.split(CHUNK_POSITIONS), strict=True):
                logits = linear(states, weight_VD, bias_V)
                normaliser = torch.cat([block.float().logsumexp(1) for block in _blocks(logits)])
                losses.append(normaliser - logits.gather(1, targets.unsqueeze(1)).squeeze(1).float())
                normalisers.append(normaliser)
        ctx.save_for_backward(states_ND, weight_VD, bias_V, targets_N, torch.cat(normalisers))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """With p the softmax and e the target's unit vector, the logits' gradient is grad * (p - e)."""
        states_ND, weight_VD, bias_V, targets_N, normalisers_N = ctx.saved_tensors
        grad_states, grad_weight, grad_bias = [], torch.zeros_like(weight_VD), torch.zeros_like(bias_V)
        parts = (x.split(CHUNK_POSITIONS) for x in (states_ND, targets_N, normalisers_N, grad_N))
        for states, targets, normalisers, grads in zip(*parts, strict=True):
            logits = linear(states, weight_VD, bias_V)
            rows = zip(*(_blocks(x, logits.shape[1]) for x in (logits, normalisers, grads)), strict=True)
            for block, normaliser, grad in rows:
                block.copy_((block.float() - normaliser.unsqueeze(1)).exp_().mul_(grad.unsqueeze(1)))
            grad_logits = logits.scatter_add_(1, targets.unsqueeze(1), -grads.unsqueeze(1).to(logits.dtype))
            grad_states.append(grad_logits @ weight_VD)
            grad_weight.addmm_(grad_logits.t(), states)
            grad_bias += grad_logits.sum(0)
        return torch.cat(grad_states), grad_weight, grad_bias, None


def _blocks(rows: Tensor, num_logits: int | None = None) -> tuple[Tensor, ...]:
    """Rows in groups of about BLOCK_LOGITS logits."""
    return rows.split(max(1, BLOCK_LOGITS // (num_logits or rows.shape[1])))
