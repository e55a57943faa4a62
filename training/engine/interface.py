"""One model in training, whatever trains it, as the loop sees it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Ranks(Protocol):
    """The processes of a run, seen from one of them."""

    rank: int
    world_size: int
    device: torch.device

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """Sum of a small tensor over all ranks."""


class Engine(Ranks, Protocol):
    """One model in training, on one process or many."""

    model: nn.Module
    layout: dict[str, Any]

    def forward_context(self) -> contextlib.AbstractContextManager:
        """Context (autocast, if any) in which the forward pass runs."""

    def backward(self, loss: Tensor) -> None:
        """Add gradients of `loss`, this rank's share of the global loss in this accumulation step."""

    def step(self) -> None:
        """Close an accumulation step; after the last one, clip, update the weights, advance the learning rate.

        Raises FloatingPointError when the gradient norm is not finite; the weights keep their values then.
        """

    def skip(self, loss: Tensor) -> None:
        """In place of the last `backward` and `step` of an update: no weight and no moment of Adam changes.

        All gradients are thrown away, the learning rate advances. Every rank calls it.
        """

    def grad_norm(self) -> float | None:
        """Global gradient norm of the last update, before clipping; None where the ZeRO stage does not tell."""

    def learning_rate(self) -> float:
        """Learning rate of the last update."""

    def barrier(self) -> None:
        """Wait for all ranks."""

    def save(self, directory: Path) -> None:
        """Write the state that `load` needs to go on exactly; every rank calls it."""

    def load(self, directory: Path) -> None:
        """Go on, exactly, from the files of a `save` with the same layout: weights and the optimizer's moments."""

    def load_other_layout(self, directory: Path) -> None:
        """Go on from a save with any layout; the model got its weights before it was given to the engine."""

    def full_state_dict(self) -> dict[str, Tensor]:
        """All weights on rank 0, an empty dict elsewhere; every rank calls it."""

    def destroy(self) -> None:
        """Free the engine's memory, with the model's weights where these are in parts; every rank calls it."""
