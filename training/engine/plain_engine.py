"""The engine for one process, with torch alone: the reference for ZeRO."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.checkpoints.resharding import read_training
from training.checkpoints.stored_tensors import write_state
from training.engine.adam import RateSchedule, check_norm, set_torch_state, settle_adam, trained_parameters
from training.engine.deepspeed_config import layout_of
from training.engine.optimizers import build_optimizers
from training.engine.processes import share_cores, warn_of_other_programs
from training.recipe.base import TrainingRecipe
from training.recipe.ds_config import asks_for_bf16


def plain_device() -> torch.device:
    """The device of the plain engine."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class PlainEngine:
    """One process, torch alone. float32 weights; with bf16 in the DeepSpeed config, autocast around the forward."""

    def __init__(
        self,
        model: nn.Module,
        recipe: TrainingRecipe,
        lr_factor: Callable[[int], float],
        ds_config: Mapping[str, Any],
        start_step: int = 0,
    ) -> None:
        share_cores()
        self.rank, self.world_size = 0, 1
        self.device = plain_device()
        if self.device.type == "cpu":
            warn_of_other_programs()
        self.model = model.to(self.device)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.bf16 = asks_for_bf16(ds_config)
        self.optimizers = build_optimizers(model, recipe, in_bf16=self.bf16)
        self.schedule = RateSchedule(recipe, lr_factor, start_step)
        self.clip_norm = recipe.clip_norm or float("inf")
        self.accumulation_steps = recipe.accumulation_steps
        self.micro_steps = 0
        self.layout = layout_of(recipe)
        self.last_norm = 0.0

    def forward_context(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self) -> None:
        self.micro_steps += 1
        if self.micro_steps % self.accumulation_steps:
            return
        self.last_norm = float(nn.utils.clip_grad_norm_(self.parameters, self.clip_norm))
        check_norm(self.last_norm)
        self.schedule.begin_update(*self.optimizers.values())
        for optimizer in self.optimizers.values():
            optimizer.step()
        self._forget_gradients()

    def skip(self, loss: Tensor) -> None:
        self.micro_steps += 1
        self.schedule.begin_update(*self.optimizers.values())
        self._forget_gradients()

    def _forget_gradients(self) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)

    def grad_norm(self) -> float:
        return self.last_norm

    def learning_rate(self) -> float:
        return self.schedule.last_rate

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        return values

    def barrier(self) -> None:
        pass

    def save(self, directory: Path) -> None:
        states = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        state = {"model": self.model.state_dict(), **states}
        directory.mkdir(parents=True, exist_ok=True)
        write_state(state, directory / "plain_engine.pt")

    def load(self, directory: Path) -> None:
        path = directory / "plain_engine.pt"
        if not path.is_file():
            raise ValueError(f"{path}: no such file; this checkpoint was written by the DeepSpeed engine")
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[name])
            settle_adam(optimizer)

    def load_other_layout(self, directory: Path) -> None:
        stored = read_training(directory, [name for name, _ in trained_parameters(self.model)])
        set_torch_state(self.model, self.optimizers["optimizer"], stored)

    def full_state_dict(self) -> dict[str, Tensor]:
        return {name: weight.detach().cpu() for name, weight in self.model.state_dict().items()}

    def destroy(self) -> None:
        self._forget_gradients()
