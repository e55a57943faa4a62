"""Fill CTranslate2's description of a model, its "spec", with VECO's embeddings and layers.

CTranslate2 has layers like VECO's: post-LayerNorm, learned positions, a LayerNorm after the embeddings. `spec` and
`side` are objects of `ctranslate2.specs`, which this module does not import.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from veco.attention import MultiHeadAttention
from veco.config import VecoConfig
from veco.layer import VecoLayer
from veco.model import VecoEmbeddings

ACTIVATIONS = {"gelu": "GELU", "gelu_new": "GELUTanh", "relu": "RELU", "silu": "SWISH"}  # ours -> CTranslate2's


def check_activation(config: VecoConfig) -> None:
    """Raise ValueError for layers with an activation that CTranslate2 does not have."""
    if config.hidden_act not in ACTIVATIONS:
        raise ValueError(f"hidden_act {config.hidden_act!r}: CTranslate2 has only {', '.join(ACTIVATIONS)}")


def set_embeddings(side: Any, spec: Any, embeddings: VecoEmbeddings, order: Sequence[int]) -> None:
    """Fill in the embeddings of the encoder or decoder, with ids in that order."""
    side.scale_embeddings = embeddings.scale or False
    spec.weight = embeddings.word_embeddings.weight[order]
    positions = embeddings.position_embeddings
    assert positions.padding_idx is not None, "VecoEmbeddings sets it"
    side.position_encodings.encodings = positions.weight[positions.padding_idx + 1 :]  # CTranslate2 counts from 0
    set_norm(side.layernorm_embedding, embeddings.norm)


def set_layer(spec: Any, layer: VecoLayer) -> None:
    """Fill in all of a layer except its cross-attention."""
    set_attention(spec.self_attention, layer.self_attention)
    set_norm(spec.self_attention.layer_norm, layer.self_attention_norm)
    set_linear(spec.ffn.linear_0, layer.feed_forward.up_proj)
    set_linear(spec.ffn.linear_1, layer.feed_forward.down_proj)
    set_norm(spec.ffn.layer_norm, layer.feed_forward_norm)


def set_attention(spec: Any, attention: MultiHeadAttention) -> None:
    """Fill in the projections: query, key and value fused, in cross-attention only key and value."""
    *inputs, output = spec.linear
    if len(inputs) == 1:
        groups = [[attention.q_proj, attention.k_proj, attention.v_proj]]
    else:
        groups = [[attention.q_proj], [attention.k_proj, attention.v_proj]]
    for linear, group in zip(inputs, groups, strict=True):
        linear.weight = torch.cat([projection.weight for projection in group])
        linear.bias = torch.cat([projection.bias for projection in group])
    set_linear(output, attention.out_proj)


def set_linear(spec: Any, linear: nn.Linear) -> None:
    spec.weight, spec.bias = linear.weight, linear.bias


def set_norm(spec: Any, norm: nn.LayerNorm) -> None:
    spec.gamma, spec.beta = norm.weight, norm.bias


def fill(spec: Any, weight: Tensor, bias: Tensor) -> None:
    spec.weight, spec.bias = weight, bias
