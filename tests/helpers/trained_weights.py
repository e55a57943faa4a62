"""All weights of a checkpoint in memory, to be compared."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from training.checkpoints.zero_shards import checkpoint_weights


def consolidated_weights(checkpoint_dir: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint that an engine's `save` wrote, in memory; of tied ones only the one that is trained.

    Trained ones are float32, those that a phase left alone have the type they were used in.
    """
    return {name: tensor.read() for name, tensor in checkpoint_weights(checkpoint_dir).items()}
