"""The weights in a training checkpoint, whole again, whichever engine, ZeRO stage and number of ranks wrote it.

DeepSpeed keeps the float32 weights flat, cut over its ranks: under stage 3 each parameter by itself, in equal parts
with padding at the end; under stages 1 and 2 all parameters in a row, the row cut in equal parts. Weights that a phase
does not train lie with the model's state, in the type they are used in. Nothing but the files' tables of contents is
read here; deepspeed is not needed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.checkpoints.stored_tensors import StoredTensor, joined, read_torch_file

PLAIN_FILE = "plain_engine.pt"


def checkpoint_weights(checkpoint: Path) -> dict[str, StoredTensor]:
    """Every parameter and buffer of a checkpoint by name; of tied ones only the one that is trained.

    Raises ValueError when files of ranks are missing or broken, or sizes do not add up.
    """
    plain = checkpoint / PLAIN_FILE
    if plain.is_file():
        return once_each(read_torch_file(plain)["model"])
    optimizers = rank_files(checkpoint, "optim_states.pt")
    if not optimizers:  # stage 0: every rank has all weights
        return once_each(read_torch_file(single_file(checkpoint))["module"])
    shards = [read_torch_file(path)["optimizer_state_dict"] for path in optimizers]
    parts = shards[0]["partition_count"]
    ranks = max(parts) if isinstance(parts, list) else parts
    if len(shards) != ranks:
        raise ValueError(f"{checkpoint}: {ranks} ranks wrote it, but there are *_optim_states.pt of {len(shards)}")
    if "fp32_flat_groups" not in shards[0]:
        state = read_torch_file(single_file(checkpoint))
        return {**once_each(state["module"]), **stage2_trained(state, shards)}
    states = [read_torch_file(path) for path in rank_files(checkpoint, "model_states.pt")]
    if len(states) != ranks:
        raise ValueError(f"{checkpoint}: {ranks} ranks wrote it, but there are *_model_states.pt of {len(states)}")
    buffers = {name: states[0]["module"][name] for name in states[0]["buffer_names"]}
    return {**buffers, **stage3_frozen(states), **stage3_trained(states[0], shards)}


def rank_files(checkpoint: Path, ending: str) -> list[Path]:
    """The files of that kind, by rank."""
    found = {}
    for path in checkpoint.glob(f"*{ending}"):
        if match := re.fullmatch(rf"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_00_{re.escape(ending)}", path.name):
            found[int(match[1])] = path
    return [path for _, path in sorted(found.items())]


def single_file(checkpoint: Path) -> Path:
    path = checkpoint / "mp_rank_00_model_states.pt"
    if not path.is_file():
        raise ValueError(f"{checkpoint}: expected a training checkpoint, found neither {PLAIN_FILE} nor {path.name}")
    return path


def once_each(weights: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Of tensors that share their numbers (tied weights) the first."""
    names: dict[object, str] = {}
    for name, tensor in weights.items():
        names.setdefault(tensor.runs, name)
    return {name: weights[name] for name in names.values()}


def flat_groups(shard: dict[str, Any], kind: str) -> list[StoredTensor]:
    """One rank's part of all parameters in DeepSpeed's order: "fp32" weights, or a moment of Adam by torch's name."""
    if kind == "fp32":
        groups = "fp32_flat_groups" if "fp32_flat_groups" in shard else "single_partition_of_fp32_groups"
        return shard[groups]
    states = shard["optimizer_state_dict" if "fp32_flat_groups" in shard else "base_optimizer_state"]["state"]
    return [states[number][kind] for number in sorted(states)]


def stage3_trained(
    state: dict[str, Any], shards: Sequence[dict[str, Any]], kind: str = "fp32"
) -> dict[str, StoredTensor]:
    rows = [joined(flat_groups(shard, kind)) for shard in shards]
    found, begin = {}, 0
    for shapes in state["param_shapes"]:
        for name, shape in shapes.items():
            size = math.ceil(math.prod(shape) / len(rows))  # on each rank, the last ones padded
            found[name] = whole(shape, [StoredTensor((size,), row.part(begin, begin + size)) for row in rows])
            begin += size
    check_consumed(begin, rows[0].count, 0, rows[0])
    return found


def stage3_frozen(states: Sequence[dict[str, Any]]) -> dict[str, StoredTensor]:
    shapes = states[0]["frozen_param_shapes"] or {}
    return {
        name: whole(shape, [state["frozen_param_fragments"][name] for state in states])
        for name, shape in shapes.items()
    }


def stage2_trained(
    state: dict[str, Any], shards: Sequence[dict[str, Any]], kind: str = "fp32"
) -> dict[str, StoredTensor]:
    paddings = shards[0].get("param_alignment_paddings")
    found = {}
    for number, shapes in enumerate(state["param_shapes"]):
        row = joined([flat_groups(shard, kind)[number] for shard in shards])
        begin = 0
        for position, (name, shape) in enumerate(shapes.items()):
            size = math.prod(shape)
            found[name] = StoredTensor(tuple(shape), row.part(begin, begin + size))
            begin += size + (paddings[number][position] if paddings else 0)
        # Every rank's part is aligned, so the row may end in padding.
        check_consumed(begin, row.count, 2 * len(shards), row)
    return found


def whole(shape: tuple[int, ...], parts: Sequence[StoredTensor]) -> StoredTensor:
    """The tensor whose flat numbers are those of `parts` in order, without the padding at their end."""
    return StoredTensor(tuple(shape), joined(parts).part(0, math.prod(shape)))


def check_consumed(used: int, available: int, padding: int, row: StoredTensor) -> None:
    if not used <= available <= used + padding:
        path = row.runs[0].path
        raise ValueError(f"{path}: holds {available:,} numbers, its parameters have {used:,}; the files do not match")
