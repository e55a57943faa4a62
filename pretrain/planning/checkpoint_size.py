"""Disk space of a run's checkpoints.

A checkpoint holds float32 weights and Adam's two moments, 12 bytes a parameter over all ranks. Where each rank has the
model whole and computes in 16 bits (stages 0 to 2) there are 2 more, of the model as it is used.
"""

from __future__ import annotations

from dataclasses import dataclass

from pretrain.planning.activations import FLOAT32
from pretrain.planning.memory import Zero
from pretrain.planning.workload import Workload
from training.recipe.ds_config import HALVES

STATE, HALF = 12, 2


@dataclass(frozen=True)
class CheckpointSize:
    """Bytes of one checkpoint, how many there are at the most, and bytes of all with the model at the run's end."""

    one: int
    most: int
    total: int


def checkpoint_size(workload: Workload, zero: Zero) -> CheckpointSize:
    recipe, parameters = workload.recipe, workload.parameters
    count, trained = parameters.model, parameters.trained
    frozen = count - trained
    in_16_bits = zero.precision in HALVES
    one = STATE * trained + (HALF if in_16_bits else FLOAT32) * (count if in_16_bits and zero.stage < 3 else frozen)
    one += parameters.momentum_bytes
    num_borders = len(recipe.stages_in_turn()) - 1
    made = -(-recipe.total_steps // recipe.save_every) + num_borders
    for_good = recipe.total_steps // recipe.keep_every if recipe.keep_every else 0
    for_good += num_borders
    # While one is written, the one that it will replace is still there.
    most = min(made, recipe.keep_checkpoints + 1 + for_good)
    return CheckpointSize(one, most, most * one + HALF * count)
