"""Attention over packed tokens by CUDA's fused kernels, which take dropout and never write the weights out.

Both are torch's own. `varlen_attn` offers the first one without dropout, SDPA both over padded tokens alone. They
compute what `veco.attention.PackedMask` computes elsewhere. Shape suffixes are those of `veco.attention`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

AMPERE = (8, 0)
HALVES = (torch.float16, torch.bfloat16)
LARGEST_FLASH_HEAD = 256
ALIGNMENT = 8  # a head's width must be a multiple of it
NO_MASK, CAUSAL = 0, 1  # `custom_mask_type` of the efficient kernel


class SequenceBounds(NamedTuple):
    """Where packed sequences start and end, int32 (B + 1,), and the longest one, of queries and of keys."""

    query_starts: Tensor
    key_starts: Tensor
    longest_query: int
    longest_key: int


# (query_NHK, key_MHK, value_MHK, bounds, dropout, whether later positions are hidden) -> context (N, H, K).
FusedKernel = Callable[[Tensor, Tensor, Tensor, SequenceBounds, float, bool], Tensor]


def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a CUDA device; (0, 0) of any other."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)


def fused_kernel(query_NHK: Tensor) -> FusedKernel | None:
    """The fused kernel for queries like these, or None: bfloat16 and flash attention need Ampere (sm_80) or newer."""
    found, head = capability(query_NHK.device), query_NHK.shape[-1]
    if found == (0, 0) or head % ALIGNMENT:
        return None
    if found >= AMPERE and query_NHK.dtype in HALVES and head <= LARGEST_FLASH_HEAD:
        return flash
    return efficient if found >= AMPERE or query_NHK.dtype != torch.bfloat16 else None


def flash(
    query_NHK: Tensor,
    key_MHK: Tensor,
    value_MHK: Tensor,
    bounds: SequenceBounds,
    dropout_p: float,
    is_causal: bool,
) -> Tensor:
    """Flash attention: half precision, Ampere or newer."""
    context_NHK, *_ = torch.ops.aten._flash_attention_forward(
        query_NHK,
        key_MHK,
        value_MHK,
        *bounds,
        dropout_p,
        is_causal,
        False,  # no attention weights for debugging
    )
    return context_NHK


def efficient(
    query_NHK: Tensor,
    key_MHK: Tensor,
    value_MHK: Tensor,
    bounds: SequenceBounds,
    dropout_p: float,
    is_causal: bool,
) -> Tensor:
    """Memory-efficient attention: any card, float16 and float32, and bfloat16 where the card has it."""
    context_1NHK, *_ = torch.ops.aten._efficient_attention_forward(
        query_NHK.unsqueeze(0),
        key_MHK.unsqueeze(0),
        value_MHK.unsqueeze(0),
        None,  # no bias
        *bounds,
        dropout_p,
        CAUSAL if is_causal else NO_MASK,
        True,  # keep what the backward pass needs
    )
    return context_1NHK.squeeze(0)
