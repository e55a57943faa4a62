"""Weights of a checkpoint with the products of low-rank matrices (LoRA) added to them, piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from training.checkpoints.stored_tensors import StoredTensor

# peft's names of a linear module's own weights, and of the two matrices that it gets.
BASE, DOWN, UP = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"


@dataclass(frozen=True, eq=False)
class MergedTensor(StoredTensor):
    """W + scale B A of a stored W (out, in), with A (rank, in) and B (out, rank) in memory."""

    down: Tensor
    up: Tensor
    scale: float

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32  # in 16 bits small changes would be lost

    def read_flat(self, start: int, stop: int) -> Tensor:
        width = self.shape[1]
        first, last = start // width, -(-stop // width)
        added = (self.up[first:last] @ self.down).flatten()[start - first * width : stop - first * width]
        return super().read_flat(start, stop).float() + self.scale * added


def merged(weights: Mapping[str, StoredTensor], scale: float) -> dict[str, StoredTensor]:
    """The weights of a model without low-rank matrices that computes the same; `scale` is lora_alpha / lora_rank."""
    found: dict[str, StoredTensor] = {}
    for name, stored in weights.items():
        if name.endswith((DOWN, UP)):
            continue
        own = name.replace(BASE, ".")
        module = own.removesuffix(".weight")
        if BASE in name and module + DOWN in weights and own.endswith(".weight"):
            down, up = (weights[module + part].read().float() for part in (DOWN, UP))
            stored = MergedTensor(stored.shape, stored.runs, down, up, scale)
        found[own] = stored
    return found
