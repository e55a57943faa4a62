"""DeepSpeed's own settings: files of ds_configs/ or the user's, looked at before DeepSpeed sees them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DS_CONFIGS = Path(__file__).resolve().parent.parent / "ds_configs"
# What the recipe decides; a DeepSpeed config that also names one of these contradicts "one place for each value".
RECIPE_OWNED = (
    "optimizer",
    "scheduler",
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
)
# What DeepSpeed reads at the top level of its config. It ignores what it does not know, so a misspelt key would.
DEEPSPEED_KEYS = (
    "bf16",
    "fp16",
    "torch_autocast",
    "zero_optimization",
    "comms_logger",
    "flops_profiler",
    "checkpoint",
    "communication_data_type",
    "wall_clock_breakdown",
    "data_types",
    "zero_allow_untested_optimizer",
)


def read_ds_config(name: str) -> dict[str, Any]:
    """DeepSpeed's settings from a file, or from ds_configs/ by name.

    Raises ValueError for a missing file, unknown keys, values that belong to the recipe, and "auto", which only
    transformers' Trainer would replace.
    """
    path = Path(name) if Path(name).is_file() else DS_CONFIGS / name
    if not path.is_file():
        known = ", ".join(sorted(file.name for file in DS_CONFIGS.glob("*.json")))
        raise ValueError(f"ds_config {name!r}: no such file; ds_configs/ has {known}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: expected an object, found a {type(config).__name__}")
    problems = [f"{key} belongs into the recipe" for key in config if key in RECIPE_OWNED]
    problems += [f"unknown key {key}" for key in config if key not in (*RECIPE_OWNED, *DEEPSPEED_KEYS)]
    if "writer" in config.get("checkpoint", {}):
        problems.append("checkpoint.writer: a decoupled writer would still write when the checkpoint gets its name")
    if '"auto"' in json.dumps(config):
        problems.append('"auto" is not understood by DeepSpeed itself: give the value')
    if problems:
        raise ValueError(f"{path}: " + "; ".join(problems))
    return config


def asks_for_bf16(config: Mapping[str, Any]) -> bool:
    """Whether DeepSpeed is to compute in bfloat16."""
    return bool(config.get("bf16", {}).get("enabled"))


def in_float32(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings without bfloat16, in float32."""
    return {name: value for name, value in config.items() if name not in ("bf16", "data_types")}
