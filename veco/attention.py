"""Multi-head self- and cross-attention over padded or packed tokens, with a cache for decoding.

Shape suffixes: B batch, T queries, S keys, D width, H heads, K head width; N queries and M keys of all sequences
together, packed end to end without padding.
There is one mask convention: an `attention_mask` is boolean, broadcasts to (B, H, T, S), and is True where a query may
attend to a key. Its counterpart for packed tokens is a `PackedMask`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.cache_utils import EncoderDecoderCache

from veco.dropout import dropout
from veco.fused_attention import SequenceBounds, fused_kernel
from veco.packing import Padding, compiles_each_shape, rounded_up, starts_of
from veco.tracing import is_traced

# Most pairs of a query and a key in a block of several sequences on CPU. The scores of small blocks stay in the CPU's
# cache, and a block of one sequence needs neither padding nor copies of its heads; measured for 4 to 12 heads.
BLOCK_PAIRS = 2**14
# Where each shape is compiled, sequences of a padded block have the length of the longest, `rounded_up` with this.
WHOLE_LENGTHS = 8
FEW_QUERIES = 8
BACK_ENDS = ("auto", "eager", "sdpa")


def faster_eagerly(query_BHTK: Tensor, dropout_p: float) -> bool:
    """Whether `eager_attention` beats SDPA here, as it often does on CPU (torch 2.13; `benchmarks/attention.py`).

    The backward pass of SDPA's CPU kernel takes 4 to 9 times as long in bfloat16, its forward pass up to twice as long,
    and a few queries over cached keys 2 to 9 times. With dropout SDPA falls back to plain matrix products with slow
    random numbers. It wins only in float32 without dropout.
    """
    if is_traced():  # the choice for these shapes would be recorded for all others
        return False
    is_half, is_decoding = query_BHTK.dtype != torch.float32, query_BHTK.shape[-2] <= FEW_QUERIES
    return query_BHTK.device.type == "cpu" and (is_half or is_decoding or dropout_p > 0)


def eager_attention(
    query_BHTK: Tensor,
    key_BHSK: Tensor,
    value_BHSK: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Tensor:
    """Context (B, H, T, K) by plain matrix products, as `scaled_dot_product_attention` with a boolean mask."""
    return attention_weights(query_BHTK, key_BHSK, attn_mask, dropout_p, is_causal) @ value_BHSK


def attention_weights(
    query_BHTK: Tensor,
    key_BHSK: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Tensor:
    """Attention weights (B, H, T, S) after dropout; without dropout those of a query sum to 1."""
    scores_BHTS = (query_BHTK * query_BHTK.shape[-1] ** -0.5) @ key_BHSK.transpose(-1, -2)
    if is_causal:
        attn_mask = torch.ones(scores_BHTS.shape[-2:], dtype=torch.bool, device=scores_BHTS.device).tril()
    if attn_mask is not None:
        scores_BHTS = scores_BHTS.masked_fill_(~attn_mask, torch.finfo(scores_BHTS.dtype).min)
    return dropout(scores_BHTS.softmax(dim=-1), dropout_p)


def attend(
    query_BHTK: Tensor,
    key_BHSK: Tensor,
    value_BHSK: Tensor,
    attention_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    back_end: str = "auto",
) -> Tensor:
    """Context (B, H, T, K) by one of BACK_ENDS; "auto" takes the one that `faster_eagerly` expects to be faster."""
    is_eager = faster_eagerly(query_BHTK, dropout_p) if back_end == "auto" else back_end == "eager"
    function = eager_attention if is_eager else scaled_dot_product_attention
    return function(query_BHTK, key_BHSK, value_BHSK, attention_mask, dropout_p, is_causal)


class PackedEnds(NamedTuple):
    """Where the packed sequences of queries and of keys start and end, int32 (B + 1,)."""

    query_starts: Tensor
    key_starts: Tensor


class TokenClasses(NamedTuple):
    """Classes of packed tokens, int64 (N,), and which classes each attends to.

    A query of class i attends to the keys of class j of its own sequence where `attends_to[i][j]` is true. Every query
    must have at least one such key.
    """

    of_tokens: Tensor
    attends_to: Sequence[Sequence[bool]]

    def mask(self, padding: Padding) -> Tensor:
        """Boolean (B, 1, T, T) of padded sequences; padding, whose context is dropped, attends to all tokens."""
        is_token_BT = padding.is_token_BT
        # Bit j of a token's number tells whether it attends to class j: so the table need not be copied to a device.
        seen = torch.zeros_like(self.of_tokens)
        for of_class, row in enumerate(self.attends_to):
            bits = sum(1 << seen_class for seen_class, is_seen in enumerate(row) if is_seen)
            seen = seen + bits * self.of_tokens.eq(of_class)
        classes_BT, seen_BT = padding.pad(self.of_tokens), padding.pad(seen)
        by_class = (seen_BT.unsqueeze(2) >> classes_BT.unsqueeze(1)).bitwise_and(1).bool()
        by_class = by_class | ~is_token_BT.unsqueeze(2)
        return (by_class & is_token_BT.unsqueeze(1)).unsqueeze(1)


@dataclass(frozen=True)
class PackedMask:
    """Mask of packed tokens: the queries of sequence i attend to the keys of sequence i only.

    `query_lengths` and `key_lengths` are the lengths of the sequences in tokens, in packed order. In self-attention
    `is_causal` hides later positions, and `classes` all keys whose class that of the query does not attend to. `ends`
    are for fused kernels, made from the lengths if they are not given. Sequences that are padded have the length of
    the longest, `rounded_up` with `rounding`.
    """

    query_lengths: Sequence[int]
    key_lengths: Sequence[int]
    is_causal: bool = False
    ends: PackedEnds | None = field(default=None, compare=False, repr=False)
    classes: TokenClasses | None = field(default=None, compare=False, repr=False)
    rounding: int = field(default=1, compare=False, repr=False)
    # By device, once for all layers: most models are on one.
    _ends: dict[torch.device, PackedEnds] = field(default_factory=dict, init=False, compare=False, repr=False)
    _paddings: dict[torch.device, tuple[Padding, Padding]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @torch.compiler.disable  # lengths differ in every batch, and each would be compiled anew
    def attend(
        self, query_NHK: Tensor, key_MHK: Tensor, value_MHK: Tensor, dropout_p: float, back_end: str = "auto"
    ) -> Tensor:
        """Context (N, H, K) of each query, by a fused kernel if there is one, or else by `attend` with `back_end`.

        Fused kernels know no classes. On a CPU queries, keys and values may have rows behind those of all sequences, as
        VecoModel adds them by `in_whole_rows`; the context of such queries is zero.
        """
        device = query_NHK.device
        kernel = fused_kernel(query_NHK)
        if kernel is not None and back_end != "eager" and self.classes is None:
            longest = max(self.query_lengths), max(self.key_lengths)
            bounds = SequenceBounds(*self._ends_on(device), *longest)
            return kernel(query_NHK, key_MHK, value_MHK, bounds, dropout_p, self.is_causal)
        mask = self._in_whole_lengths if compiles_each_shape(query_NHK) else self
        blocks = mask.blocks if device.type == "cpu" else [mask]
        num_queries = [sum(block.query_lengths) for block in blocks]
        num_keys = [sum(block.key_lengths) for block in blocks]
        *queries, behind = query_NHK.split([*num_queries, len(query_NHK) - sum(num_queries)])
        keys, values = (x[: sum(num_keys)].split(num_keys) for x in (key_MHK, value_MHK))
        contexts = [
            block._at_once(query, key, value, dropout_p, back_end)
            for block, query, key, value in zip(blocks, queries, keys, values, strict=True)
        ]
        return torch.cat([*contexts, value_MHK.new_zeros(len(behind), *value_MHK.shape[1:])])

    @cached_property
    def _in_whole_lengths(self) -> PackedMask:
        return replace(self, rounding=WHOLE_LENGTHS)

    def _ends_on(self, device: torch.device) -> PackedEnds:
        if device not in self._ends:
            made = self.ends or PackedEnds(starts_of(self.query_lengths), starts_of(self.key_lengths))
            self._ends[device] = PackedEnds(*(starts.to(device) for starts in made))
        return self._ends[device]

    def _paddings_on(self, device: torch.device) -> tuple[Padding, Padding]:
        """Of queries and of keys, where they are padded."""
        if device not in self._paddings:
            ends = self._ends_on(device)
            longest = [rounded_up(max(lengths), self.rounding) for lengths in (self.query_lengths, self.key_lengths)]
            of_queries = Padding.behind(ends.query_starts, longest[0], sum(self.query_lengths))
            of_keys = of_queries
            if self.query_lengths != self.key_lengths:
                of_keys = Padding.behind(ends.key_starts, longest[1], sum(self.key_lengths))
            self._paddings[device] = of_queries, of_keys
        return self._paddings[device]

    @cached_property
    def _class_mask(self) -> Tensor:
        """That of `classes`, once for all layers."""
        assert self.classes is not None and not self.is_causal and self.query_lengths == self.key_lengths
        return self.classes.mask(self._paddings_on(self.classes.of_tokens.device)[0])

    @cached_property
    def blocks(self) -> list[PackedMask]:
        """This mask in parts, each of which is one matrix product on CPU.

        A part is one sequence, or neighbours padded to one length if they are so short that fewer calls save more than
        the padding costs.
        """
        blocks, start = [], 0
        for end in range(1, len(self.query_lengths) + 1):
            if end == len(self.query_lengths) or not self._is_one_block(start, end + 1):
                blocks.append(self._part(start, end))
                start = end
        return blocks

    def _part(self, start: int, end: int) -> PackedMask:
        classes = self.classes
        if classes is not None:
            first, after = sum(self.query_lengths[:start]), sum(self.query_lengths[:end])
            classes = classes._replace(of_tokens=classes.of_tokens[first:after])
        lengths = self.query_lengths[start:end], self.key_lengths[start:end]
        return PackedMask(*lengths, self.is_causal, classes=classes, rounding=self.rounding)

    def _is_one_block(self, start: int, end: int) -> bool:
        parts = self.query_lengths[start:end], self.key_lengths[start:end]
        num_queries, num_keys = (rounded_up(max(lengths), self.rounding) for lengths in parts)
        return (end - start) * num_queries * num_keys <= BLOCK_PAIRS

    def _at_once(
        self, query_NHK: Tensor, key_MHK: Tensor, value_MHK: Tensor, dropout_p: float, back_end: str
    ) -> Tensor:
        """Context (N, H, K) by one call, padded for the attention alone if lengths differ."""
        rows = len(self.query_lengths)
        needs_no_padding = len(set(self.query_lengths)) == len(set(self.key_lengths)) == 1
        if self.classes is None and needs_no_padding:
            query, key, value = (
                x.unflatten(0, (rows, len(x) // rows)).transpose(1, 2) for x in (query_NHK, key_MHK, value_MHK)
            )
            context_BHTK = attend(query, key, value, None, dropout_p, self.is_causal, back_end)
            return context_BHTK.transpose(1, 2).flatten(0, 1)
        of_queries, of_keys = self._paddings_on(query_NHK.device)
        query, key, value = (
            padding.pad(x).transpose(1, 2)
            for x, padding in ((query_NHK, of_queries), (key_MHK, of_keys), (value_MHK, of_keys))
        )
        # A causal mask already hides the padding behind a sequence.
        attention_mask = None if self.is_causal else of_keys.is_token_BT[:, None, None]
        if self.classes is not None:
            attention_mask = self._class_mask
        context_BHTK = attend(query, key, value, attention_mask, dropout_p, self.is_causal, back_end)
        return of_queries.pack(context_BHTK.transpose(1, 2))


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention (SDPA) with its four projections; its inputs make it self- or cross-attention."""

    def __init__(self, hidden_size: int, num_heads: int, dropout: float, layer_idx: int) -> None:
        """`dropout` applies to the attention weights; `layer_idx` is this layer's slot in a decoding cache."""
        super().__init__()
        self.num_heads = num_heads
        self.head_size = hidden_size // num_heads
        self.dropout = dropout
        self.layer_idx = layer_idx
        self.training_back_end = "auto"
        self.q_proj = nn.Linear(hidden_size, hidden_size)
        self.k_proj = nn.Linear(hidden_size, hidden_size)
        self.v_proj = nn.Linear(hidden_size, hidden_size)
        self.out_proj = nn.Linear(hidden_size, hidden_size)

    def forward(
        self,
        query_BTD: Tensor,
        pair_BSD: Tensor | None = None,
        attention_mask: Tensor | PackedMask | None = None,
        is_causal: bool = False,
        cache: EncoderDecoderCache | None = None,
        weights: list[Tensor] | None = None,
    ) -> Tensor:
        """Context (B, T, D) of the queries over themselves, or over `pair_BSD` (B, S, D) if that is given.

        `pair_BSD` may have fewer rows than the queries, B / n: each of its rows then serves n consecutive rows of
        queries, as the beams of a sentence. With a `PackedMask` the inputs are packed, (N, D) and (M, D), and so is the
        context. With a cache, self-attention appends its keys and values to it, and cross-attention projects `pair_BSD`
        only once per sequence. `is_causal` hides later positions; it allows no mask and no earlier positions.
        If `weights` is given, the attention weights (B, H, T, S) are computed and appended to it.
        """
        dropout_p = self.dropout if self.training else 0.0
        back_end = self.training_back_end if self.training else "auto"
        if isinstance(attention_mask, PackedMask):
            assert cache is None and not is_causal, "decoding takes padded targets; a packed mask has its own is_causal"
            assert weights is None, "weights are computed for padded sequences"
            source_MD = query_BTD if pair_BSD is None else pair_BSD
            query_NHK, key_MHK, value_MHK = (
                x.unflatten(-1, (self.num_heads, self.head_size))
                for x in (self.q_proj(query_BTD), self.k_proj(source_MD), self.v_proj(source_MD))
            )
            context_NHK = attention_mask.attend(query_NHK, key_MHK, value_MHK, dropout_p, back_end)
            return self.out_proj(context_NHK.flatten(1))
        query_BHTK = self._split_heads(self.q_proj(query_BTD))
        key_BHSK, value_BHSK = self._keys_and_values(query_BTD, pair_BSD, cache)
        num_sharing = query_BHTK.shape[0] // key_BHSK.shape[0]
        if num_sharing > 1:  # as more queries of one row, whose keys are then read once, not once per beam
            query_BHTK = query_BHTK.unflatten(0, (-1, num_sharing)).transpose(1, 2).flatten(2, 3)
        if weights is None:
            context_BHTK = attend(query_BHTK, key_BHSK, value_BHSK, attention_mask, dropout_p, is_causal, back_end)
        else:
            weights_BHTS = attention_weights(query_BHTK, key_BHSK, attention_mask, dropout_p, is_causal)
            context_BHTK = weights_BHTS @ value_BHSK
            weights.append(_of_each_row(weights_BHTS, num_sharing))
        context_BHTK = _of_each_row(context_BHTK, num_sharing)
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


def _of_each_row(x_BHTK: Tensor, num_sharing: int) -> Tensor:
    """(B, H, n * T, ·) as (B * n, H, T, ·): the n rows that shared keys, separated again."""
    if num_sharing == 1:
        return x_BHTK
    return x_BHTK.unflatten(2, (num_sharing, -1)).transpose(1, 2).flatten(0, 1)


def use_in_training(model: nn.Module, back_end: str) -> None:
    """Make every attention of `model` use one of BACK_ENDS in training; evaluation and decoding keep "auto"."""
    if back_end not in BACK_ENDS:
        raise ValueError(f"attention {back_end!r}: expected one of {', '.join(BACK_ENDS)}")
    for module in model.modules():
        if isinstance(module, MultiHeadAttention):
            module.training_back_end = back_end
