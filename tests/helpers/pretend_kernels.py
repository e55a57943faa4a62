"""CUDA's fused attention over packed tokens, computed by its definition: handlers for a pretend device.

They take and give what torch's operators do, so torch's own formulas for gradients run between them. The dropout of the
backward pass is that of the forward pass, drawn again from the random state that went from one to the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import torch
from pretend_device import NAME, PretendDevice
from torch import Tensor

from veco import fused_attention


class Weights(NamedTuple):
    """Of one sequence: the attention weights (H, T, S), and the factors that dropout puts on them."""

    probabilities: Tensor
    kept: Tensor


def weights_of(
    query_THK: Tensor, key_SHK: Tensor, dropout_p: float, is_causal: bool, draws: torch.Generator
) -> Weights:
    scores = torch.einsum("thk,shk->hts", query_THK.float(), key_SHK.float()) * query_THK.shape[-1] ** -0.5
    if is_causal:
        scores = scores.masked_fill(torch.ones(scores.shape[1:], dtype=torch.bool).tril().logical_not(), -torch.inf)
    kept = torch.rand(scores.shape, generator=draws).ge(dropout_p).float() / (1 - dropout_p)
    return Weights(scores.softmax(-1), kept)


def sequences(starts: Tensor, *packed: Tensor) -> list[tuple[Tensor, ...]]:
    sizes = starts.diff().tolist()
    return list(zip(*(x.split(sizes) for x in packed), strict=True))


def forward(
    q: Tensor, k: Tensor, v: Tensor, starts: tuple[Tensor, Tensor], p: float, causal: bool, seed: int
) -> Tensor:
    assert all(of.dtype == torch.int32 for of in starts), "the kernels take int32"
    draws = torch.Generator().manual_seed(seed)
    context = []
    for (query,), (key, value) in zip(sequences(starts[0], q), sequences(starts[1], k, v), strict=True):
        probabilities, kept = weights_of(query, key, p, causal, draws)
        context.append(torch.einsum("hts,shk->thk", probabilities * kept, value.float()))
    return torch.cat(context).to(q.dtype)


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, starts: tuple[Tensor, Tensor], p: float, causal: bool, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    found: list[list[Tensor]] = [[], [], []]
    scale = q.shape[-1] ** -0.5
    for (query, upstream), (key, value) in zip(sequences(starts[0], q, grad), sequences(starts[1], k, v), strict=True):
        probabilities, kept = weights_of(query, key, p, causal, draws)
        upstream = upstream.float()
        of_weights = torch.einsum("thk,shk->hts", upstream, value.float()) * kept
        of_scores = probabilities * (of_weights - (of_weights * probabilities).sum(-1, keepdim=True)) * scale
        found[0].append(torch.einsum("hts,shk->thk", of_scores, key.float()))
        found[1].append(torch.einsum("hts,thk->shk", of_scores, query.float()))
        found[2].append(torch.einsum("hts,thk->shk", probabilities * kept, upstream))
    of_q, of_k, of_v = (torch.cat(parts).to(q.dtype) for parts in found)
    return of_q, of_k, of_v


def check_longest(starts: Tensor, longest: int) -> None:
    assert longest == max(starts.diff().tolist()), "the kernels trust this number"


def flash_forward(q: Tensor, k: Tensor, v: Tensor, q_starts: Tensor, k_starts: Tensor, *rest: Any) -> tuple[Any, ...]:
    longest_q, longest_k, p, causal, debug = rest
    check_longest(q_starts, longest_q)
    check_longest(k_starts, longest_k)
    assert q.dtype in (torch.float16, torch.bfloat16) and not debug
    seed = torch.randint(2**31, (2,))
    context = forward(q, k, v, (q_starts, k_starts), p, causal, int(seed[0]))
    return context, q.new_zeros(q.shape[1], len(q), dtype=torch.float32), seed, torch.zeros(()), q.new_zeros(0)


def flash_backward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **_: Any) -> tuple[Tensor, ...]:
    _, _, q_starts, k_starts, _, _, p, causal, seed, _ = rest
    return backward(grad, q, k, v, (q_starts, k_starts), p, causal, int(seed[0]))


def efficient_forward(
    q: Tensor, k: Tensor, v: Tensor, bias: None, q_starts: Tensor, k_starts: Tensor, *rest: Any
) -> Any:
    longest_q, longest_k, p, mask_type, keeps = rest
    check_longest(q_starts, longest_q)
    check_longest(k_starts, longest_k)
    assert bias is None and keeps and len(q) == 1
    seed = torch.randint(2**31, ())
    context = forward(q[0], k[0], v[0], (q_starts, k_starts), p, mask_type == 1, int(seed))
    sums = q.new_zeros(len(q_starts) - 1, q.shape[2], longest_q, dtype=torch.float32)
    return context.unsqueeze(0), sums, seed, torch.zeros((), dtype=torch.int64), longest_q, longest_k


def efficient_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *rest: Any, **_: Any
) -> tuple[Tensor | None, ...]:
    _, _, q_starts, k_starts, _, _, _, p, seed, _, mask_type, _ = rest
    found = backward(grad[0], q[0], k[0], v[0], (q_starts, k_starts), p, mask_type == 1, int(seed))
    return *(x.unsqueeze(0) for x in found), None


HANDLERS = {
    "_flash_attention_forward": flash_forward,
    "_flash_attention_backward": flash_backward,
    "_efficient_attention_forward": efficient_forward,
    "_efficient_attention_backward": efficient_backward,
}


@contextlib.contextmanager
def pretend_card(capability: tuple[int, int] = (8, 0)) -> Iterator[PretendDevice]:
    """A pretend device that has the fused kernels of a CUDA card of that compute capability; (0, 0): none of them."""

    def of(device: torch.device) -> tuple[int, int]:
        return capability if device.type == NAME else (0, 0)

    with mock.patch.object(fused_attention, "capability", of), PretendDevice(HANDLERS) as device:
        yield device
