"""Multi-head attention for self- and cross-attention, with the key/value cache that decoding needs.

Shape suffixes: B batch, T queries, S keys, D width, H heads, K head width.
There is one mask convention: an `attention_mask` is boolean, broadcasts to (B, H, T, S), and is True where a
query may attend to a key.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, scaled_dot_product_attention
from transformers.cache_utils import EncoderDecoderCache


def trains_faster_eagerly(query_BHTK: Tensor) -> bool:
    """Whether `eager_attention` beats SDPA here: the backward pass of SDPA's CPU kernel in bfloat16 takes 4 to 9 times
    as long (torch 2.13; 48 to 96 tokens, heads of 32 and 64). In float32 and without gradients SDPA is the faster."""
    return query_BHTK.device.type == "cpu" and query_BHTK.dtype != torch.float32 and torch.is_grad_enabled()


def eager_attention(
    query_BHTK: Tensor,
    key_BHSK: Tensor,
    value_BHSK: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Tensor:
    """Context (B, H, T, K), as `scaled_dot_product_attention` gives it for a boolean mask, in plain matrix products."""
    scores_BHTS = (query_BHTK * query_BHTK.shape[-1] ** -0.5) @ key_BHSK.transpose(-1, -2)
    if is_causal:
        attn_mask = torch.ones(scores_BHTS.shape[-2:], dtype=torch.bool, device=scores_BHTS.device).tril()
    if attn_mask is not None:
        scores_BHTS = scores_BHTS.masked_fill(~attn_mask, torch.finfo(scores_BHTS.dtype).min)
    return dropout(scores_BHTS.softmax(dim=-1), dropout_p) @ value_BHSK


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention (SDPA) with its four projections; self- or cross-attention by its inputs."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float, layer_idx: int) -> None:
        """`dropout` acts on the attention weights; `layer_idx` is the slot of this layer in a decoding cache."""
        super().__init__()
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.dropout = dropout
        self.layer_idx = layer_idx
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(
        self,
        query_BTD: Tensor,
        pair_BSD: Tensor | None = None,
        attention_mask: Tensor | None = None,
        is_causal: bool = False,
        cache: EncoderDecoderCache | None = None,
    ) -> Tensor:
        """Context (B, T, D) of each query over itself, or over `pair_BSD` (B, S, D) when that is given.

        With a cache, self-attention appends its keys and values to it, and cross-attention projects `pair_BSD`
        only once a sequence. `is_causal` hides later positions; it goes with no mask and no earlier positions.
        """
        query_BHTK = self._split_heads(self.q_proj(query_BTD))
        key_BHSK, value_BHSK = self._keys_and_values(query_BTD, pair_BSD, cache)
        attend = eager_attention if trains_faster_eagerly(query_BHTK) else scaled_dot_product_attention
        context_BHTK = attend(
            query_BHTK,
            key_BHSK,
            value_BHSK,
            attn_mask=attention_mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=is_causal,
        )
        return self.out_proj(context_BHTK.transpose(1, 2).flatten(2))

    def _keys_and_values(
        self, query_BTD: Tensor, pair_BSD: Tensor | None, cache: EncoderDecoderCache | None
    ) -> tuple[Tensor, Tensor]:
        if cache is not None and pair_BSD is not None and cache.is_updated.get(self.layer_idx):
            slot = cache.cross_attention_cache.layers[self.layer_idx]
            return slot.keys, slot.values
        source_BSD = query_BTD if pair_BSD is None else pair_BSD
        key_BHSK = self._split_heads(self.k_proj(source_BSD))
        value_BHSK = self._split_heads(self.v_proj(source_BSD))
        if cache is None:
            return key_BHSK, value_BHSK
        if pair_BSD is None:
            return cache.self_attention_cache.update(key_BHSK, value_BHSK, self.layer_idx)
        cache.is_updated[self.layer_idx] = True
        return cache.cross_attention_cache.update(key_BHSK, value_BHSK, self.layer_idx)

    def _split_heads(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.num_heads, self.head_size)).transpose(1, 2)
