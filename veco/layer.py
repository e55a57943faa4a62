"""One post-LayerNorm layer; its inputs plug its cross-attention in or out."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_layers import GradientCheckpointingLayer

from veco.adapter_config import HOULSBY, KINDS
from veco.adapters.modules import BottleneckAdapters
from veco.attention import MultiHeadAttention, PackedMask
from veco.config import VecoConfig
from veco.dropout import Dropout
from veco.feed_forward import FeedForward


@dataclass
class AttentionWeights:
    """Attention weights (B, H, T, S) of each layer, in order, filled by layers that get this object."""

    self_attention: list[Tensor] = field(default_factory=list)
    cross_attention: list[Tensor] = field(default_factory=list)


class VecoLayer(GradientCheckpointingLayer):
    """Self-attention, cross-attention (plug-and-play) and feed-forward, each with dropout, residual and LayerNorm.

    VECO (ACL 2021), section 2.1. Self-attention and feed-forward are theta_s, cross-attention with its LayerNorm is
    theta_c. A layer that is never plugged in (of a translation model's encoder) is built without theta_c. Where the
    configuration has adapters, they are behind self-attention and feed-forward, in front of residual and LayerNorm.
    """

    def __init__(
        self, config: VecoConfig, layer_idx: int, has_cross_attention: bool = True, encoder_layer: int | None = None
    ) -> None:
        """`encoder_layer` is the layer of the encoder that a decoder's stands for, from 0; by default `layer_idx`."""
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        heads, dropout = config.num_attention_heads, config.attention_probs_dropout_prob
        place = layer_idx if encoder_layer is None else encoder_layer
        self.self_attention = MultiHeadAttention(width, heads, dropout, layer_idx)
        self.self_attention_adapters = BottleneckAdapters(config, kinds=(HOULSBY,), layer=place)
        self.self_attention_norm = nn.LayerNorm(width, eps=eps)
        if has_cross_attention:
            self.cross_attention = MultiHeadAttention(width, heads, dropout, layer_idx)
            self.cross_attention_norm = nn.LayerNorm(width, eps=eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_adapters = BottleneckAdapters(config, kinds=KINDS, layer=place)
        self.feed_forward_norm = nn.LayerNorm(width, eps=eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        x_BTD: Tensor,
        attention_mask: Tensor | PackedMask | None = None,
        pair_BSD: Tensor | None = None,
        pair_attention_mask: Tensor | PackedMask | None = None,
        is_causal: bool = False,
        cache: EncoderDecoderCache | None = None,
        weights: AttentionWeights | None = None,
    ) -> Tensor:
        """States (B, T, D) after this layer: path H without `pair_BSD` (eq. 2-5), path S with it (eq. 6-9).

        Masks are boolean, True = may be attended to, and broadcast to (B, H, T, T) and (B, H, T, S). With masks of
        packed tokens the states are packed too, (N, D) and (M, D). Attention weights are computed if `weights` is given
        to collect them.
        """
        x_BTD = self.self_attended(x_BTD, attention_mask, is_causal, cache, weights)
        if pair_BSD is not None:
            cross_weights = None if weights is None else weights.cross_attention
            context = self.cross_attention(
                x_BTD, pair_BSD, attention_mask=pair_attention_mask, cache=cache, weights=cross_weights
            )
            x_BTD = self.cross_attention_norm(x_BTD + self.dropout(context))
        output = self.dropout(self.feed_forward(x_BTD))
        output = self.feed_forward_adapters(output, x_BTD, self.feed_forward_norm)
        return self.feed_forward_norm(x_BTD + output)

    def self_attended(
        self,
        x_BTD: Tensor,
        attention_mask: Tensor | PackedMask | None = None,
        is_causal: bool = False,
        cache: EncoderDecoderCache | None = None,
        weights: AttentionWeights | None = None,
    ) -> Tensor:
        """States (B, T, D) behind the first module, self-attention: those that cross-attention asks with."""
        self_weights = None if weights is None else weights.self_attention
        context = self.self_attention(
            x_BTD, attention_mask=attention_mask, is_causal=is_causal, cache=cache, weights=self_weights
        )
        context = self.self_attention_adapters(self.dropout(context), x_BTD, self.self_attention_norm)
        attended: Tensor = self.self_attention_norm(x_BTD + context)
        return attended
