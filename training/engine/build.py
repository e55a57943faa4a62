"""The engine that a recipe asks for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from training.engine.deepspeed_config import engine_settings
from training.engine.deepspeed_engine import DeepSpeedEngine, check_deepspeed_config, start_deepspeed
from training.engine.interface import Engine, Ranks
from training.engine.plain_engine import PlainEngine, plain_device
from training.engine.processes import ConnectedRanks
from training.launch import launched_ranks
from training.recipe.base import TrainingRecipe
from training.recipe.ds_config import problem_of_card, read_ds_config
from veco.attention import use_in_training
from veco.layer import VecoLayer


def check_engine(recipe: TrainingRecipe) -> None:
    """Raise ValueError when the launcher started more processes than the recipe's engine can be."""
    if recipe.engine == "plain" and launched_ranks() > 1:
        raise ValueError(f"engine 'plain' is for one process, the launcher started {launched_ranks()}")


def build_engine(
    model: nn.Module, recipe: TrainingRecipe, lr_factor: Callable[[int], float], log_dir: Path, start_step: int = 0
) -> Engine:
    """An engine that trains those parameters of `model` which require a gradient, from update `start_step` on.

    `lr_factor` maps an update's number, from 0, to a factor of the recipe's peak learning rate: the rate is a function
    of these alone, whatever a checkpoint that the engine loads was trained with. DeepSpeed's messages go to
    `log_dir`/deepspeed-rank<n>.log.
    """
    use_in_training(model, recipe.attention)
    if recipe.compile:
        compile_layers(model)
    ds_config = engine_settings(recipe)
    if recipe.engine == "plain":
        return PlainEngine(model, recipe, lr_factor, ds_config, start_step)
    return DeepSpeedEngine(model, recipe, lr_factor, ds_config, log_dir, start_step)


def compile_layers(model: nn.Module) -> None:
    """Let torch.compile compile each layer when it is first called, for rows of any length; names of weights stay."""
    for layer in model.modules():
        if isinstance(layer, VecoLayer):
            layer.compile(dynamic=True)


def connect(recipe: TrainingRecipe, log_dir: Path) -> Ranks:
    """All ranks, before any of them has an engine: to look whether an engine can be built together."""
    if recipe.engine == "plain":
        check_card(plain_device(), recipe)
        return ConnectedRanks(0, 1, plain_device())
    deepspeed = start_deepspeed(log_dir)
    device = torch.device(deepspeed.get_accelerator().device_name(int(os.environ["LOCAL_RANK"])))
    check_card(device, recipe)
    check_deepspeed_config(deepspeed, recipe)
    return ConnectedRanks(dist.get_rank(), dist.get_world_size(), device)


def check_card(device: torch.device, recipe: TrainingRecipe) -> None:
    """Raise ValueError when a card does not compute in the precision that the recipe's ds_config asks for."""
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if problem := problem_of_card(recipe.ds_config, read_ds_config(recipe.ds_config), capability):
            raise ValueError(problem)
