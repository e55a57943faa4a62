"""The state that training resumes from, read from a checkpoint of any engine, ZeRO stage and number of ranks.

Each rank reads its own part of every tensor straight from the files. DeepSpeed's way, a universal checkpoint, needs a
second copy of everything on disk, a program that unpickles it, keeps frozen weights back, and does not lead from stage
3 to stages 1 and 2 or back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.checkpoints.stored_tensors import StoredTensor, read_torch_file
from training.checkpoints.zero_shards import PLAIN_FILE, rank_files, single_file, stage2_trained, stage3_trained

WEIGHTS, MOMENTS = "fp32", ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class StoredTraining:
    """The tensors of WEIGHTS and MOMENTS by the names of what is trained; Adam's count of updates."""

    tensors: dict[str, dict[str, StoredTensor]]
    adam_step: int


def read_training(checkpoint: Path, trained: Sequence[str]) -> StoredTraining:
    """The state of a checkpoint; `trained` are the names of the parameters that it trained, in the model's order.

    Raises ValueError when files are missing or broken, or the checkpoint trained others.
    """
    shards = [read_torch_file(path)["optimizer_state_dict"] for path in rank_files(checkpoint, "optim_states.pt")]
    if not shards:
        return read_unsharded(checkpoint, trained)
    is_stage3 = "fp32_flat_groups" in shards[0]
    state = read_torch_file(rank_files(checkpoint, "model_states.pt")[0] if is_stage3 else single_file(checkpoint))
    collect = stage3_trained if is_stage3 else stage2_trained
    tensors = {kind: collect(state, shards, kind) for kind in (WEIGHTS, *MOMENTS)}
    if tensors[WEIGHTS].keys() != set(trained):
        names = sorted(tensors[WEIGHTS].keys() ^ set(trained))
        raise ValueError(f"{checkpoint}: was trained with different trainable parameters: {', '.join(names[:5])}")
    adam = shards[0]["optimizer_state_dict" if is_stage3 else "base_optimizer_state"]
    return StoredTraining(tensors, adam_step(adam))


def read_unsharded(checkpoint: Path, trained: Sequence[str]) -> StoredTraining:
    """Read unsharded state: the plain engine's, or ZeRO stage 0's, whose state is torch's own where all is float32."""
    if (checkpoint / PLAIN_FILE).is_file():
        state = read_torch_file(checkpoint / PLAIN_FILE)
        weights = state["model"]
    else:
        state = read_torch_file(single_file(checkpoint))
        weights = state["module"]
    adam = state["optimizer"]
    if len(adam.get("state", {})) != len(trained):
        raise ValueError(f"{checkpoint}: it can only be resumed at ZeRO stage 0, with the precision it was written in")
    tensors = {kind: {name: adam["state"][number][kind] for number, name in enumerate(trained)} for kind in MOMENTS}
    tensors[WEIGHTS] = {name: weights[name] for name in trained}
    return StoredTraining(tensors, adam_step(adam))


def adam_step(adam: dict[str, Any]) -> int:
    """The number of Adam's updates.

    Kernels count for each tensor, or for all together in the group. DeepSpeed's FusedAdam leaves the group's count at 0
    and, of several tensors in a group, counts in the last one's alone: the largest count is right.
    """
    groups, states = adam["param_groups"], adam["state"].values()
    steps = [state["step"] for state in states if "step" in state] or [group["step"] for group in groups]
    return max(int(step.read()) if isinstance(step, StoredTensor) else int(step) for step in steps)
