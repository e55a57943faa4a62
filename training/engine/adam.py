"""Adam in both engines: learning rates by update, and its state from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from training.checkpoints.resharding import MOMENTS, StoredTraining
from training.engine.deepspeed_config import adam_settings, muon_settings
from training.recipe.base import TrainingRecipe


class RateSchedule:
    """The number of the next update, and its learning rates: functions of that number and the recipe."""

    def __init__(self, recipe: TrainingRecipe, lr_factor: Callable[[int], float], start_step: int) -> None:
        self.adam, self.muon = adam_settings(recipe), muon_settings(recipe)
        self.lr_factor = lr_factor
        self.step = start_step
        self.last_rate = 0.0  # Adam's of the update before

    def begin_update(self, *optimizers: torch.optim.Optimizer) -> None:
        """Give all the rates of the next update, and what the recipe says now: a checkpoint's groups may differ."""
        factor = self.lr_factor(self.step)
        self.last_rate = self.adam["lr"] * factor
        for optimizer in optimizers:
            settings = self.muon if isinstance(optimizer, torch.optim.Muon) else self.adam
            for group in optimizer.param_groups:
                group.update(settings, lr=settings["lr"] * factor)
        self.step += 1


def trained_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """(name, parameter) of every parameter that is trained; of tied ones the first."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def is_fusible(rows: Iterable[Tensor]) -> bool:
    """Whether torch's fused kernel may update these: on a card few launches for all, on a CPU one pass over each.

    The kernel of torch 2.13 for CPUs reads numbers in the order of memory, whatever a row's strides.
    """
    return all(row.is_contiguous() for row in rows)


def set_torch_state(model: nn.Module, optimizer: torch.optim.Optimizer, stored: StoredTraining) -> None:
    """Give torch's own AdamW, which makes its state in its first update only, the stored one."""
    for name, parameter in trained_parameters(model):
        moments = {kind: stored.tensors[kind][name].read().to(parameter.device) for kind in MOMENTS}
        optimizer.state[parameter] = {"step": step_of(parameter, stored.adam_step), **moments}


def step_of(row: Tensor, count: float) -> Tensor:
    """The number of updates as torch's AdamW keeps it: on the device of its row, where the fused kernel reads it."""
    return torch.tensor(float(count), device=row.device)


def settle_adam(optimizer: torch.optim.Optimizer) -> None:
    """Give a state that torch's AdamW has just loaded the form that its kernel needs here, whichever kernel saved it.

    A checkpoint may come from another device, or from DeepSpeed's own kernels. These count with an int, and FusedAdam
    counts in the last tensor of a group alone, the others and the group staying at 0: there all have the largest count.
    """
    if not isinstance(optimizer, torch.optim.AdamW):
        return
    counts = [float(state["step"]) for state in optimizer.state.values() if "step" in state]
    is_foreign = any("bias_correction" in group for group in optimizer.param_groups)  # torch's groups have no such key
    for row, state in optimizer.state.items():
        if "step" in state:
            state["step"] = step_of(row, max(counts) if is_foreign else state["step"])
    for group in optimizer.param_groups:
        group["fused"] = is_fusible(group["params"])
        if is_foreign:
            for name in ("bias_correction", "step"):
                group.pop(name, None)


def check_norm(norm: float | None) -> None:
    """Raise FloatingPointError for a gradient norm that is not finite."""
    if norm is not None and not math.isfinite(norm):
        raise FloatingPointError(f"the gradient norm is {norm}; the weights were not changed")
