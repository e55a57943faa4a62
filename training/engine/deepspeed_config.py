"""A recipe in the terms of an engine: DeepSpeed's configuration, Adam's settings, the layout of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from training.launch import launched_ranks
from training.recipe.base import TrainingRecipe
from training.recipe.ds_config import asks_for_bf16, in_float32, read_ds_config


def engine_settings(recipe: TrainingRecipe) -> dict[str, Any]:
    """DeepSpeed's settings as the recipe has them: on CPU `cpu_precision` "float32" takes bfloat16 out."""
    config = read_ds_config(recipe.ds_config)
    is_float32 = recipe.cpu_precision == "float32" and not torch.cuda.is_available()
    return in_float32(config) if is_float32 and asks_for_bf16(config) else config


def layout_of(recipe: TrainingRecipe) -> dict[str, Any]:
    """The layout of this recipe's checkpoints in files: another one needs `Engine.load_other_layout`."""
    if recipe.engine == "plain":
        return {"zero_stage": "none", "precision": "float32", "parts": 1}
    config = engine_settings(recipe)
    stage = config.get("zero_optimization", {}).get("stage", 0)
    halves = [name for name in ("bf16", "fp16") if config.get(name, {}).get("enabled")]
    # At stage 0 every rank has everything, and one writes it.
    return {
        "zero_stage": stage,
        "precision": halves[0] if halves else "float32",
        "parts": launched_ranks() if stage else 1,
    }


def adam_settings(recipe: TrainingRecipe) -> dict[str, Any]:
    """Adam's settings under torch's and DeepSpeed's names, at the peak learning rate."""
    return {
        "lr": recipe.learning_rate,
        "betas": (recipe.adam_beta1, recipe.adam_beta2),
        "eps": recipe.adam_epsilon,
        "weight_decay": recipe.weight_decay,
    }


def muon_settings(recipe: TrainingRecipe) -> dict[str, Any]:
    """Muon's settings under torch's names, at the peak learning rate."""
    return {
        "lr": recipe.muon_learning_rate,
        "momentum": recipe.muon_momentum,
        "weight_decay": recipe.weight_decay,
    }


def complete_config(ds_config: Mapping[str, Any], recipe: TrainingRecipe) -> dict[str, Any]:
    """DeepSpeed's settings with those that the recipe decides."""
    offloads = "offload_optimizer" in ds_config.get("zero_optimization", {})
    adam = {
        **adam_settings(recipe),
        # torch's own kernel, which is there: DeepSpeed would compile one for a minute and a half, on a card with nvcc,
        # which torch's wheels do not bring. Only what is offloaded has none.
        "torch_adam": not offloads,
        **({} if offloads else {"fused": True}),
        "adam_w_mode": True,
    }
    return {
        **ds_config,
        "optimizer": {"type": "AdamW", "params": adam},
        # DeepSpeed wants a number of samples; ours vary by kind of batch, and nothing but its logs reads it.
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": recipe.accumulation_steps,
        "gradient_clipping": recipe.clip_norm,
    }
