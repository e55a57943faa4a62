"""All weights of a checkpoint in memory, for comparison."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from training.checkpoints.zero_shards import checkpoint_weights


def consolidated_weights(checkpoint_dir: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint that an engine's `save` wrote, in memory; of tied weights only the trained name.

    Trained weights are float32; those frozen in a phase have the dtype in which they were used.
    """
    return {name: tensor.read() for name, tensor in checkpoint_weights(checkpoint_dir).items()}
