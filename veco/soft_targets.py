"""A teacher's probabilities of all pieces of the vocabulary as targets, without holding the logits of all positions.

With temperature t, a teacher's logits v and a student's z, the loss of a position is (Hinton et al., 2015)

    t^2 KL(softmax(v / t) || softmax(z / t))

whose gradient t (softmax(z / t) - softmax(v / t)) keeps its size whatever the temperature.

Shape suffixes: N positions; D width of the student; E width of the teacher; V pieces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Positions whose logits, of teacher and student, exist at a time: 256 MB each in float32 at 250,002 pieces.
CHUNK_POSITIONS = 256


class SoftTargets(NamedTuple):
    """What a teacher's logits are made of: states (N, E), weight (V or more, E) and bias; and the temperature.

    Of pieces that the teacher alone has, behind the student's, nothing is learned.
    """

    states_NE: Tensor
    weight_VE: Tensor
    bias_V: Tensor
    temperature: float


def soft_divergence(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """The loss (...) of logits (..., V) of student and teacher, in float32 at least: the formula above."""
    of_student, of_teacher = log_probabilities(logits, temperature), log_probabilities(teacher_logits, temperature)
    probabilities = of_teacher.exp()
    # Where the teacher has 0, as at places that are no candidates, both logarithms may be minus infinity.
    differences = (of_teacher - of_student).masked_fill(probabilities == 0, 0.0)
    return temperature**2 * (probabilities * differences).sum(-1)


def log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature) in float32 at least."""
    return (logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature).log_softmax(-1)


class ProjectedDivergence(torch.autograd.Function):
    """The loss (N,) of student logits states @ weight.T + bias, and whether both models' most probable piece is one.

    The logits are computed in chunks, and again in the backward pass; the teacher gets no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, states_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, soft: SoftTargets
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(states_ND, weight_VD, bias_V)
        ctx.soft = soft
        losses = [torch.empty(0, device=states_ND.device)]
        agrees = [torch.empty(0, device=states_ND.device, dtype=torch.bool)]
        with torch.autocast(states_ND.device.type, enabled=False):
            for _, logits, taught in _chunks(states_ND, weight_VD, bias_V, soft):
                losses.append(soft_divergence(logits, taught, soft.temperature))
                agrees.append(logits.argmax(-1) == taught.argmax(-1))
        ctx.mark_non_differentiable(agreeing := torch.cat(agrees))
        return torch.cat(losses), agreeing

    @staticmethod
    def backward(ctx: Any, grad_N: Tensor, _: Tensor) -> tuple[Tensor, Tensor | None, Tensor, None]:
        states_ND, weight_VD, bias_V = ctx.saved_tensors
        temperature = ctx.soft.temperature
        grad_states, grad_bias = [states_ND[:0]], torch.zeros_like(bias_V)
        grad_weight = torch.zeros_like(weight_VD) if ctx.needs_input_grad[1] else None
        for part, logits, taught in _chunks(states_ND, weight_VD, bias_V, ctx.soft):
            own, theirs = (log_probabilities(of, temperature).exp_() for of in (logits, taught))
            grad_logits = own.sub_(theirs).mul_(temperature * grad_N[part].unsqueeze(1))
            grad_bias += grad_logits.sum(0)
            grad_logits = grad_logits.to(weight_VD.dtype)
            grad_states.append(grad_logits @ weight_VD)
            if grad_weight is not None:
                grad_weight.addmm_(grad_logits.t(), states_ND[part])
        return torch.cat(grad_states), grad_weight, grad_bias, None


def _chunks(
    states_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, soft: SoftTargets
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The places of a chunk, and its logits (chunk, V) of student and teacher, in float32 at least."""
    num_pieces = len(bias_V)
    of_teacher = (
        soft.weight_VE[:num_pieces],
        soft.bias_V[:num_pieces].to(torch.promote_types(soft.bias_V.dtype, torch.float32)),
    )
    for start in range(0, len(states_ND), CHUNK_POSITIONS):
        part = slice(start, start + CHUNK_POSITIONS)
        yield part, states_ND[part] @ weight_VD.t() + bias_V, soft.states_NE[part] @ of_teacher[0].t() + of_teacher[1]
