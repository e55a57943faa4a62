from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from pretrain.checkpoints import (
    check_same_run,
    checkpoints_of,
    drop_checkpoints_after,
    find_checkpoint,
    run_state,
    save_checkpoint,
)
from pretrain.engine import PlainEngine
from pretrain.recipe import PretrainRecipe


@pytest.fixture
def recipe(tmp_path: Path) -> PretrainRecipe:
    return PretrainRecipe(output=str(tmp_path), keep_checkpoints=2, learning_rate=0.1)


@pytest.fixture
def engine(recipe: PretrainRecipe) -> PlainEngine:
    torch.manual_seed(0)
    return PlainEngine(nn.Linear(3, 2), recipe, lambda step: 1.0 / (step + 1), {})


def save(engine: PlainEngine, run_dir: Path, step: int, recipe: PretrainRecipe, fail: bool = False) -> None:
    def add_files(directory: Path) -> None:
        if fail:
            raise OSError("disk full")

    save_checkpoint(engine, run_dir, step, recipe, run_state("abc"), add_files)


def update(engine: PlainEngine) -> None:
    engine.backward(engine.model(torch.ones(1, 3)).square().sum())
    engine.step()


def test_newest_are_kept_and_auto_takes_the_newest(engine, recipe, tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(engine, tmp_path, step, recipe)
    assert list(checkpoints_of(tmp_path)) == [10, 15]
    assert find_checkpoint(tmp_path, "auto") == (15, tmp_path / "checkpoints" / "step-00000015")
    assert find_checkpoint(tmp_path, "10") == (10, tmp_path / "checkpoints" / "step-00000010")
    with pytest.raises(ValueError, match="no checkpoint of step 5; there are: 10, 15"):
        find_checkpoint(tmp_path, "5")
    with pytest.raises(ValueError, match=r"already has checkpoints \(newest: step 15\)"):
        find_checkpoint(tmp_path, "no")


def test_save_that_fails_half_way_leaves_the_one_before(engine, recipe, tmp_path: Path) -> None:
    save(engine, tmp_path, 5, recipe)
    with pytest.raises(OSError, match="disk full"):
        save(engine, tmp_path, 10, recipe, fail=True)
    assert list(checkpoints_of(tmp_path)) == [5]
    save(engine, tmp_path, 10, recipe)
    assert list(checkpoints_of(tmp_path)) == [5, 10]


def test_going_back_gives_up_what_came_later(engine, recipe, tmp_path: Path) -> None:
    for step in (5, 10):
        save(engine, tmp_path, step, recipe)
    drop_checkpoints_after(engine, tmp_path, 5)
    assert list(checkpoints_of(tmp_path)) == [5]


def test_resumed_engine_goes_on_exactly(engine, recipe, tmp_path: Path) -> None:
    update(engine)
    save(engine, tmp_path, 1, recipe)
    update(engine)
    other = PlainEngine(nn.Linear(3, 2), recipe, lambda step: 1.0 / (step + 1), {})
    other.load(checkpoints_of(tmp_path)[1])
    update(other)
    assert torch.equal(other.model.weight, engine.model.weight)
    assert other.learning_rate() == engine.learning_rate() == pytest.approx(0.05)


def test_another_run_is_refused_with_all_differences(engine, recipe, tmp_path: Path) -> None:
    save(engine, tmp_path, 5, recipe)
    checkpoint = checkpoints_of(tmp_path)[5]
    check_same_run(checkpoint, dataclasses.replace(recipe, steps=7, log_every=1, resume="auto"), run_state("abc"))
    with pytest.raises(ValueError, match="data_fingerprint was abc, is xyz; seed was 1, is 2; alpha was 0.5, is 0.7"):
        check_same_run(checkpoint, dataclasses.replace(recipe, seed=2, alpha=0.7), run_state("xyz"))
    state = json.loads((checkpoint / "state.json").read_text())
    assert state["step"] == 5 and state["world_size"] == 1


def test_non_finite_gradient_stops_before_the_update(engine) -> None:
    before = engine.model.weight.clone()
    engine.backward(engine.model(torch.full((1, 3), float("inf"))).sum())
    with pytest.raises(RuntimeError, match="gradient norm is"):
        engine.step()
    assert torch.equal(engine.model.weight, before)
