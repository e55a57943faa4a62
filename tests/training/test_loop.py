"""The loop around the step: what happens where other ranks are met outside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from training import loop
from training.engine import plain_engine
from training.engine.plain_engine import PlainEngine
from training.guards import Guards
from training.loop import Hooks, fit
from training.meters import Meters
from training.recipe.base import TrainingRecipe
from training.step import LossFunction
from training.task import Trainable
from veco.dropout import dropout


class Ones(Dataset):
    def __getitem__(self, number: int) -> dict[str, Tensor]:
        return {"x": torch.ones(1, 2), "attention_mask": torch.ones(1, 1, dtype=torch.int64)}


class Toy(Trainable):
    """One row of ones after the other, with some loss."""

    fingerprint = "data"

    def __init__(self, loss: LossFunction) -> None:
        self.own_loss = loss

    def batches(self, rank: int, world_size: int) -> Dataset:
        return Ones()

    def kind_of(self, step: int) -> str:
        return "toy"

    def loss(self, model: nn.Module, batch: dict[str, Tensor], num_items: Tensor) -> dict[str, Tensor]:
        return self.own_loss(model, batch, num_items)

    def count_items(self, batch: dict[str, Tensor]) -> Tensor:
        return torch.ones(1, dtype=torch.int64)


def square(model: nn.Module, batch: dict[str, Tensor], num_items: Tensor) -> dict[str, Tensor]:
    return {"square": model(batch["x"]).square().sum()}


def lost(*arguments: Any) -> dict[str, float]:
    raise RuntimeError("[../third_party/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:3712")


@pytest.mark.parametrize("place", ["validation after update 1", "update 1, toy batch"])
def test_rank_that_is_lost_between_updates_is_told_in_a_line(place: str, tmp_path: Path, monkeypatch) -> None:
    """While others are waited for in a validation, or for a line of metrics."""
    monkeypatch.setattr(plain_engine, "share_cores", lambda: None)
    recipe = TrainingRecipe(output=str(tmp_path), engine="plain", validate_every=1, loader_workers=0)
    with pytest.raises(ConnectionError, match=f"^{place}: another rank is gone"), Meters(tmp_path, 1, 0, 9, True) as m:
        if place.startswith("update"):
            m.watch(lost, until=99)
        fit(
            PlainEngine(nn.Linear(2, 1), recipe, lambda step: 1.0, {}),
            recipe,
            Toy(square),
            range(9),
            hooks=Hooks(save=lambda step: None, validate=lost),
            meters=m,
            guards=Guards(recipe),
        )


def fit_toy(trained: PlainEngine, recipe: TrainingRecipe, loss: LossFunction, steps: range) -> None:
    """Make some updates, and nothing else."""
    with Meters(Path(recipe.output), 1, steps.start, steps.stop, False) as meters:
        hooks = Hooks(save=lambda step: None)
        fit(trained, recipe, Toy(loss), steps, hooks=hooks, meters=meters, guards=Guards(recipe))


def dropout_masks(run_dir: Path, rank: int = 0, start: int = 0, seed: int = 1) -> dict[int, list[bool]]:
    """Which of 64 numbers dropout leaves in each of updates `start` to 3, on a rank."""
    recipe = TrainingRecipe(output=str(run_dir), engine="plain", loader_workers=0, seed=seed)
    engine_of_rank = PlainEngine(nn.Linear(2, 1), recipe, lambda step: 1.0, {})
    engine_of_rank.rank = rank
    masks = []

    def loss(model: nn.Module, batch: dict[str, Tensor], num_items: Tensor) -> dict[str, Tensor]:
        masks.append(dropout(torch.ones(64), 0.5).ne(0).tolist())
        return {"square": model(batch["x"]).square().sum()}

    fit_toy(engine_of_rank, recipe, loss, range(start, 3))
    return dict(zip(range(start, 3), masks, strict=True))


def test_dropout_is_a_function_of_seed_update_and_rank(tmp_path: Path, monkeypatch) -> None:
    """So no random state needs saving, no two updates and no two ranks drop the same."""
    monkeypatch.setattr(plain_engine, "share_cores", lambda: None)
    monkeypatch.setattr(loop, "check_ranks_agree", lambda *ranks, **facts: None)  # the other ranks are not there
    torch.manual_seed(0)
    first = dropout_masks(tmp_path)
    torch.manual_seed(99)  # whatever was drawn before
    assert dropout_masks(tmp_path, start=1) == {1: first[1], 2: first[2]}, "going on draws what was drawn before"
    other_rank, other_seed = dropout_masks(tmp_path, rank=1), dropout_masks(tmp_path, seed=2)
    masks = [*first.values(), *other_rank.values(), *other_seed.values()]
    assert len({tuple(mask) for mask in masks}) == 9


def test_model_opened_for_evaluation_is_trained_with_dropout(tmp_path: Path, monkeypatch) -> None:
    """As transformers' from_pretrained gives it."""
    monkeypatch.setattr(plain_engine, "share_cores", lambda: None)
    recipe = TrainingRecipe(output=str(tmp_path), engine="plain", loader_workers=0)
    modes = []

    def loss(model: nn.Module, batch: dict[str, Tensor], num_items: Tensor) -> dict[str, Tensor]:
        modes.append(model.training)
        return {"square": model(batch["x"]).square().sum()}

    fit_toy(PlainEngine(nn.Linear(2, 1).eval(), recipe, lambda step: 1.0, {}), recipe, loss, range(2))
    assert modes == [True, True]
