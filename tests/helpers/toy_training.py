"""A run on a model of a few hundred weights: enough for tests of checkpoints and guards.

python tests/helpers/toy_training.py --output RUN [--any_field value], also under the deepspeed launcher
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PretrainedConfig

from training.launch import EXIT_STOPPED, launched_rank, launched_ranks, run_on_ranks
from training.loop import seed_everything
from training.recipe.base import Phase, TrainingRecipe
from training.recipe.option import FREE, option
from training.recipe.parsing import parse_recipe
from training.run import train_run
from training.task import Task

ROWS = 8  # in a global batch
WIDTH = 5  # odd: the weights do not divide by the ranks


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyRecipe(TrainingRecipe):
    """Recipe of the toy run."""

    attention: str = option("eager", "not timed: there is none", on_resume=FREE)
    frozen: bool = option(False, "leave the first layer alone")
    nan_at: int = option(0, "update whose data on the last rank are no numbers")
    spike_at: int = option(0, "update whose data are far too large")
    full_disk_at: int = option(0, "update from which on the last rank cannot write more than a kilobyte")
    pause: float = option(0.0, "seconds that reading a batch takes")
    data: str = option("", "anything: stands for the data's fingerprint")

    def lr_factor(self, step: int, schedule_start: int = 0) -> float:
        return 1 / (1 + step)


class ToyBatches(Dataset):
    """Batches whose rows in update k are the same for any number of ranks and accumulation steps."""

    def __init__(self, recipe: ToyRecipe) -> None:
        self.recipe = recipe
        self.rank, self.world_size = launched_rank(), launched_ranks()

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        time.sleep(self.recipe.pause)
        step, part = divmod(number, self.recipe.accumulation_steps)
        rows = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(step))
        if step + 1 == self.recipe.spike_at:
            rows *= 100
        if step + 1 == self.recipe.nan_at and self.rank == self.world_size - 1:
            rows *= float("nan")
        size = ROWS // (self.world_size * self.recipe.accumulation_steps)
        first = (part * self.world_size + self.rank) * size
        own = rows[first : first + size]
        return {"x": own, "attention_mask": torch.ones(len(own), 1, dtype=torch.int64)}


class ToyTask(Task[ToyRecipe]):
    """Two layers that learn to turn rows by one place."""

    attention_dropout = 0.0

    def __init__(self, recipe: ToyRecipe, checkpoint: Path | None) -> None:
        self.recipe = recipe
        self.fingerprint = recipe.data
        self.num_saves = 0

    def build_model(self, checkpoint: Path | None) -> None:
        # Of a run that goes on the frozen weights, too, can only come from the checkpoint.
        seed_everything(self.recipe.seed + (checkpoint is not None))
        self.model = nn.Sequential(nn.Linear(WIDTH, 7), nn.Tanh(), nn.Linear(7, WIDTH))
        self.model.config = PretrainedConfig()

    def introduction(self, recipe: ToyRecipe) -> dict[str, Any]:
        return {"task": "toy"}

    def enter(self, phase: Phase) -> None:
        self.model[0].requires_grad_(not self.recipe.frozen)

    def batches(self, rank: int, world_size: int) -> Dataset:
        return ToyBatches(self.recipe)

    def kind_of(self, step: int) -> str:
        return "toy"

    def loss(self, model: nn.Module, batch: dict[str, Tensor], num_items: Tensor) -> dict[str, Tensor]:
        output = model(batch["x"].to(next(model.parameters()).dtype))
        return {"square": (output.float() - batch["x"].float().roll(1, dims=1)).square().sum() / num_items[0]}

    def count_items(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["attention_mask"].sum().reshape(1)

    def validates(self) -> bool:
        return False

    def state(self) -> dict[str, Any]:
        """Nothing; a save asks for this before it writes anything."""
        self.num_saves += 1
        is_full = self.num_saves * self.recipe.save_every == self.recipe.full_disk_at
        if is_full and launched_rank() == launched_ranks() - 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        return {}


def main() -> None:
    recipe = parse_recipe(ToyRecipe, sys.argv[1:])
    if not train_run(recipe, ToyTask):
        sys.exit(EXIT_STOPPED)


if __name__ == "__main__":
    run_on_ranks(main)
