"""DeepSpeed's own settings: files of ds_configs/ or of the user, checked before DeepSpeed reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_tools.text.lines import read_text

DS_CONFIGS = Path(__file__).resolve().parents[2] / "ds_configs"
# The recipe decides these; a DeepSpeed config that names one, too, would give a value a second place.
RECIPE_OWNED = (
    "optimizer",
    "scheduler",
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
)
# The keys that DeepSpeed reads at the top level of its config. It ignores all others, such as a misspelt one.
SECTIONS = (
    *("bf16", "fp16", "torch_autocast", "zero_optimization"),
    *("comms_logger", "flops_profiler", "checkpoint", "data_types"),
)
DEEPSPEED_KEYS = (*SECTIONS, "communication_data_type", "wall_clock_breakdown", "zero_allow_untested_optimizer")
HALVES = ("bf16", "fp16")
BF16_CAPABILITY = (8, 0)  # Ampere


def read_ds_config(name: str) -> dict[str, Any]:
    """DeepSpeed's settings from a file, or from ds_configs/ by name.

    Raises ValueError for a missing file, unknown keys, values that belong to the recipe, wrong types of the
    settings that are read here, and "auto", which only transformers' Trainer would replace.
    """
    path = Path(name) if Path(name).is_file() else DS_CONFIGS / name
    if not path.is_file():
        known = ", ".join(sorted(file.name for file in DS_CONFIGS.glob("*.json")))
        raise ValueError(f"ds_config {name!r}: no such file; ds_configs/ has {known}")
    try:
        config = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{path}: expected an object, found a {type(config).__name__}")
    problems = [
        f"set {key} settings in the recipe (learning_rate, adam_…, clip_norm and so on), not in the ds_config"
        for key in config
        if key in RECIPE_OWNED
    ]
    problems += [f"unknown key {key}" for key in config if key not in (*RECIPE_OWNED, *DEEPSPEED_KEYS)]
    problems += problems_of_types(config)
    if not problems and "writer" in config.get("checkpoint", {}):
        problems.append(
            "checkpoint.writer: a decoupled writer would still write when the checkpoint is renamed into place"
        )
    if '"auto"' in json.dumps(config):
        problems.insert(0, '"auto" is not understood by DeepSpeed itself: give the value')
    if problems:
        raise ValueError(f"{path}: " + "; ".join(problems))
    return config


def asks_for_bf16(config: Mapping[str, Any]) -> bool:
    """Whether DeepSpeed is to compute in bfloat16."""
    return bool(config.get("bf16", {}).get("enabled"))


def problem_of_card(name: str, config: Mapping[str, Any], capability: tuple[int, int]) -> str:
    """A sentence if the settings, of the file `name`, ask a card for bfloat16 that does not have it; empty otherwise.

    `capability` is CUDA's: (7, 0) for sm_70. Older cards than (8, 0) emulate bfloat16 slower than they compute float32.
    """
    if not asks_for_bf16(config) or capability >= BF16_CAPABILITY:
        return ""
    major, minor = capability
    return (
        f"ds_config {name}: bf16.enabled: this card (sm_{major}{minor}) has no bfloat16, which cards have from sm_80 "
        "on; take zero1_fp16.json"
    )


def in_float32(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings without bfloat16, in float32."""
    return {name: value for name, value in config.items() if name not in ("bf16", "data_types")}


def problems_of_types(config: dict[str, Any]) -> list[str]:
    """Problems of the sections, and of the settings that decide stage and precision; DeepSpeed checks the rest."""
    found = [
        f"{name}: expected an object such as {{…}}, found {json.dumps(config[name])}"
        for name in SECTIONS
        if name in config and not isinstance(config[name], dict)
    ]
    sections = {name: value for name, value in config.items() if isinstance(value, dict)}
    for name in HALVES:
        enabled = sections.get(name, {}).get("enabled", False)
        if not isinstance(enabled, bool):
            found.append(f"{name}.enabled: expected true or false, found {json.dumps(enabled)}")
    stage = sections.get("zero_optimization", {}).get("stage", 0)
    if isinstance(stage, bool) or stage not in range(4):
        found.append(f"zero_optimization.stage: expected 0, 1, 2 or 3, found {json.dumps(stage)}")
    if all(sections.get(name, {}).get("enabled") is True for name in HALVES):
        found.append("bf16 and fp16 are both enabled: choose one")
    return found
