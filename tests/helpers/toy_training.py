"""A run of the shared loop on a model of a few hundred weights: what a test of checkpoints and guards needs, no more.

python tests/helpers/toy_training.py --output RUN [--any_field value], also under the deepspeed launcher
"""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from training.checkpoints.deleting import clean_up
from training.checkpoints.finding import find_checkpoint, read_state
from training.checkpoints.saving import Ahead, save_checkpoint, together
from training.engine.build import build_engine, check_engine
from training.engine.processes import shut_down
from training.guards import Guards
from training.launch import EXIT_STOPPED, launched_rank, launched_ranks, run_on_ranks
from training.loop import fit, seed_everything
from training.meters import Meters
from training.recipe.base import TrainingRecipe
from training.recipe.fields import option
from training.recipe.parsing import parse_recipe
from training.runs.ownership import Ownership
from training.runs.resuming import begin

ROWS = 8  # in a global batch
WIDTH = 5  # odd: the weights do not divide by the ranks


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyRecipe(TrainingRecipe):
    """Recipe of the toy run."""

    frozen: bool = option(False, "leave the first layer alone")
    nan_at: int = option(0, "update whose data on the last rank are no numbers")
    spike_at: int = option(0, "update whose data are far too large")
    full_disk_at: int = option(0, "update from which on the last rank cannot write more than a kilobyte")
    pause: float = option(0.0, "seconds that reading a batch takes")
    data: str = option("", "anything: stands for the data's fingerprint")


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


def square(model: nn.Module, batch: dict[str, Tensor], num_items: Tensor) -> dict[str, Tensor]:
    output = model(batch["x"].to(next(model.parameters()).dtype))
    return {"square": (output.float() - batch["x"].float().roll(1, dims=1)).square().sum() / num_items[0]}


def main() -> None:
    recipe = parse_recipe(ToyRecipe, sys.argv[1:])
    check_engine(recipe)
    run_dir = Path(recipe.output)
    with Ownership(run_dir) as ownership:
        is_done = train(recipe, run_dir, ownership)
    shut_down()
    if not is_done:
        sys.exit(EXIT_STOPPED)


def train(recipe: ToyRecipe, run_dir: Path, ownership: Ownership) -> bool:
    """Whether the run finished."""
    state = {"data_fingerprint": recipe.data}
    start = begin(find_checkpoint(run_dir, recipe.resume), recipe, state)
    # In a new run frozen weights, too, can come only from the checkpoint.
    seed_everything(recipe.seed + start.step)
    model = nn.Sequential(nn.Linear(WIDTH, 7), nn.Tanh(), nn.Linear(7, WIDTH))
    model[0].requires_grad_(not recipe.frozen)
    start.prepare(model, recipe)
    engine = build_engine(model, recipe, lambda step: 1 / (1 + step), run_dir / "logs", start.step)
    ahead = Ahead(run_dir, start.step)
    meters = Meters(
        run_dir, recipe.log_every, start.step, recipe.steps, enabled=engine.rank == 0, is_held=bool(ahead.steps)
    )

    def save(step: int) -> None:
        if step == recipe.full_disk_at and engine.rank == engine.world_size - 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        noted = {**state, **start.state(), **guards.state()}
        together(engine, ownership.check)
        save_checkpoint(engine, run_dir, step, recipe, noted, lambda directory: None, ahead=ahead)
        meters.settle()

    with Guards(recipe) as guards:
        start.restore(engine)
        if start.checkpoint is not None:
            guards.load_state(read_state(start.checkpoint))
        clean_up(engine, run_dir)
        is_done = fit(
            engine,
            recipe,
            ToyBatches(recipe),
            recipe.data,
            kind_of=lambda step: "toy",
            loss_function=square,
            count_items=lambda batch: batch["attention_mask"].sum().reshape(1),
            meters=meters,
            guards=guards,
            start_step=start.step,
            end_step=recipe.steps,
            save=save,
        )
    engine.destroy()
    return is_done


if __name__ == "__main__":
    run_on_ranks(main)
