"""Floating-point operations of the model's mathematics, for the share of a machine's peak that is used."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from veco import VecoConfig

# A product's backward pass is two products of its size. What is computed again to save memory is not counted: model
# FLOPs utilisation (PaLM, Chowdhery et al., 2022, appendix B).
TRAINING_PASSES = 3


def forward_flops(config: VecoConfig, batch: Mapping[str, Tensor], objective: str) -> Tensor:
    """Operations (float64, no dimension) of the matrix products in a forward pass over real tokens, without padding.

    A multiplication with its addition counts as two. `objective` is the model's: "ca_mlm", "mlm" or "clm"; of attention
    that is causal only half is needed. Nothing here waits for an accelerator.
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    per_token = 8 * width**2 + 4 * width * config.intermediate_size  # four projections, two of the feed-forward
    parts = [prefix for prefix in ("", "pair_", "tlm_") if f"{prefix}input_ids" in batch]
    lengths = {prefix: batch[f"{prefix}attention_mask"].sum(1).double() for prefix in parts}
    num_predicted = {prefix: batch[f"{prefix}labels"].ge(0).sum().double() for prefix in parts}

    def self_attention(prefix: str) -> Tensor:
        return 4 * width * lengths[prefix].square().sum()  # scores, and the values that they weigh

    in_layers = torch.stack([per_token * lengths[prefix].sum() for prefix in parts]).sum()
    attention = torch.stack([self_attention(prefix) for prefix in parts]).sum()
    in_layers = in_layers + (attention / 2 if objective == "clm" else attention)
    predicted = torch.stack([num_predicted[prefix] for prefix in parts]).sum()
    if objective == "ca_mlm":
        for prefix, other in (("", "pair_"), ("pair_", "")):
            projections = 4 * width**2 * (lengths[prefix] + lengths[other])  # of queries and context; keys and values
            cross_attention = projections + 4 * width * lengths[prefix] * lengths[other]
            in_layers = in_layers + per_token * lengths[prefix].sum() + self_attention(prefix) + cross_attention.sum()
        predicted = predicted + num_predicted[""] + num_predicted["pair_"]
    transform = width**2 if config.lm_head_transform else 0
    return layers * in_layers + 2 * (transform + width * config.vocab_size) * predicted
