"""Projection to the vocabulary, with a cross-entropy that never holds the logits of all positions.

Labels are smoothed as in fairseq (since late 2020, `fairseq/criterions/label_smoothed_cross_entropy.py`): with V pieces
and smoothing e, the target has probability 1 - e and each *other* piece e / (V - 1). With log-probabilities l and
target y the loss of a position is

    -(1 - e) l_y - e / (V - 1) * (sum_v l_v - l_y)

V does not count pieces that are never predicted (`NEVER`). Older fairseq, torch's `label_smoothing` and the 2015
Inception paper spread e / V over *all* pieces, the target included; that is this loss with e * (V - 1) / V instead of
e. For V = 250,000 the two differ by 4e-6 of e.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from veco.packing import computing_dtype
from veco.soft_targets import ProjectedDivergence, SoftTargets

# Positions whose logits exist at a time: enough for matrix products at full speed; 1 GB in float32 at 250,002 pieces.
CHUNK_POSITIONS = 1024
# Logits converted to float32 at a time on CPU: a megabyte, which stays in the cache of a core until it is summed up.
BLOCK_LOGITS = 2**18
# Bias of a piece that is never predicted, such as <mask> in a model that was trained without it: its exponential is 0
# in every dtype. It is finite, since weight decay turns infinity into NaN.
NEVER = -1e4


class VocabularyProjection(nn.Linear):
    """`nn.Linear` to the vocabulary that also computes the cross-entropy of targets, in bounded memory.

    It makes the chunks itself: under ZeRO-3 every call of a module gathers its weights from all ranks, so all ranks
    must make equally many calls, but they predict different numbers of tokens.
    """

    def forward(  # type: ignore[override]  # with targets another function, but ZeRO-3's hooks must run for it too
        self,
        states: Tensor,
        targets: Tensor | None = None,
        smoothing: float = 0.0,
        only_best: bool = False,
        soft_targets: SoftTargets | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Logits (..., V) of states (..., D), or the outputs of ProjectedCrossEntropy if `targets` (N,) are given.

        With `only_best` it is the most probable piece of each of the states (N, D), int64 (N,); with `soft_targets`
        the outputs of ProjectedDivergence.
        Raises ValueError for a smoothing outside [0, 1).
        """
        if only_best:
            chunks = states.split(CHUNK_POSITIONS)
            return torch.cat([super(VocabularyProjection, self).forward(chunk).argmax(1) for chunk in chunks])
        if soft_targets is None and targets is None:
            return super().forward(states)
        if not 0.0 <= smoothing < 1.0:
            raise ValueError(f"label smoothing must lie in [0, 1), found {smoothing}")
        dtype = computing_dtype(self.weight)
        projected = states.to(dtype), self.weight.to(dtype), self.bias.float()
        if soft_targets is not None:
            losses, is_best = ProjectedDivergence.apply(*projected, soft_targets)
        else:
            losses, is_best = ProjectedCrossEntropy.apply(*projected, targets, smoothing)
        return losses, is_best


def never_chosen(bias_V: Tensor) -> Tensor:
    """Whether a piece's bias is `NEVER`, or nearly so after weight decay; bool (V,)."""
    return bias_V < NEVER / 2


class ProjectedCrossEntropy(torch.autograd.Function):
    """Cross-entropy of targets under softmax(states @ weight.T + bias), float32 (N,), and whether each was predicted.

    Labels are smoothed as described at the top of this file. Predicted, bool (N,), means that no other piece is more
    probable. The logits are computed in chunks, and again in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, states_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, targets_N: Tensor, smoothing: float
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(states_ND, weight_VD, bias_V, targets_N)
        ctx.smoothing = smoothing
        smoothed = shares(bias_V, smoothing)
        losses = [torch.empty(0, device=states_ND.device)]
        is_right = [torch.empty(0, device=states_ND.device, dtype=torch.bool)]
        with torch.autocast(states_ND.device.type, enabled=False):
            for states, targets in zip(*_parts(CHUNK_POSITIONS, states_ND, targets_N), strict=True):
                logits = states @ weight_VD.t()
                for block, target in zip(*_parts(_block_size(logits), logits, targets), strict=True):
                    loss, right = _block_losses(block, bias_V, target, smoothing, *smoothed)
                    losses.append(loss)
                    is_right.append(right)
                del logits, block  # before the next chunk takes as much
        ctx.mark_non_differentiable(right := torch.cat(is_right))
        return torch.cat(losses), right

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor, _: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None, None]:
        """With softmax p and smoothed target distribution q, the gradient of the logits is grad * (p - q)."""
        states_ND, weight_VD, bias_V, targets_N = ctx.saved_tensors
        smoothed = shares(bias_V, ctx.smoothing)
        needs_weight = ctx.needs_input_grad[1]  # not while only the cross-attention is trained
        grad_states, grad_bias = [states_ND[:0]], torch.zeros_like(bias_V)
        grad_weight = torch.zeros_like(weight_VD) if needs_weight else None
        for states, targets, grads in zip(*_parts(CHUNK_POSITIONS, states_ND, targets_N, grad_N), strict=True):
            logits = states @ weight_VD.t()
            for block, target, grad in zip(*_parts(_block_size(logits), logits, targets, grads), strict=True):
                grad_bias += _block_gradient_(block, bias_V, target, grad, ctx.smoothing, *smoothed)
            grad_states.append(logits @ weight_VD)
            if grad_weight is not None:
                grad_weight.addmm_(logits.t(), states)
            del logits, block
        return torch.cat(grad_states), grad_weight, grad_bias, None, None


def _block_losses(
    block_NV: Tensor, bias_V: Tensor, target_N: Tensor, smoothing: float, never_V: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross-entropies of targets, and whether each is the most probable, from logits without their bias."""
    log_probabilities = (block_NV + bias_V).log_softmax(1)
    of_target = log_probabilities.gather(1, target_N.unsqueeze(1)).squeeze(1)
    loss = -of_target
    if smoothing:
        of_never = log_probabilities @ never_V.to(log_probabilities.dtype)
        of_others = log_probabilities.sum(1) - of_never - of_target
        loss = (1.0 - smoothing) * loss - share * of_others
    return loss, of_target >= log_probabilities.amax(1)


def _block_gradient_(
    block_NV: Tensor,
    bias_V: Tensor,
    target_N: Tensor,
    grad_N: Tensor,
    smoothing: float,
    never_V: Tensor,
    share: Tensor,
) -> Tensor:
    """The gradient of the bias, from logits without their bias; these become their own gradient."""
    probabilities = (block_NV + bias_V).softmax(1)
    if smoothing:
        probabilities -= share * (1.0 - never_V)
    probabilities[torch.arange(len(target_N), device=target_N.device), target_N] -= 1.0 - smoothing - share
    block_NV.copy_(probabilities.mul_(grad_N.unsqueeze(1)))
    return probabilities.sum(0)


def shares(bias_V: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """float32 (V,), 1 for pieces that are never predicted; and the smoothed probability of each other non-target."""
    never_V = never_chosen(bias_V).float()
    # float64, as precise as a Python float.
    return never_V, smoothing / (len(bias_V) - 1 - never_V.double().sum())


def _parts(size: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Chunks of `size` rows of each tensor; none of an empty tensor."""
    return (tensor.split(size) if len(tensor) else () for tensor in tensors)


def _block_size(logits: Tensor) -> int:
    """Rows of logits that become float32 at a time: few on CPU, all of a chunk where each step is another kernel."""
    return max(1, BLOCK_LOGITS // logits.shape[1]) if logits.device.type == "cpu" else CHUNK_POSITIONS
