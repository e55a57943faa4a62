"""Engines that go on from a checkpoint, with the same layout of files and with another one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from plain_checkpoints import plain_engine, save, update
from torch import nn

from training.checkpoints.finding import checkpoints_of
from training.checkpoints.restoring import has_other_layout, load_weights, restore
from training.engine.plain_engine import PlainEngine


def test_resumed_engine_goes_on_exactly(engine, recipe, tmp_path: Path) -> None:
    update(engine)
    save(engine, tmp_path, 1, recipe)
    update(engine)
    other = plain_engine(recipe, start_step=1)
    restore(other, checkpoints_of(tmp_path)[1])
    update(other)
    assert torch.equal(other.model.weight, engine.model.weight)
    assert other.learning_rate() == engine.learning_rate() == pytest.approx(0.05)


def test_other_layout_goes_on_equally(engine, recipe, tmp_path: Path) -> None:
    """By the way that leads between numbers of ranks and ZeRO stages."""
    update(engine)
    save(engine, tmp_path, 1, recipe)
    update(engine)
    checkpoint = checkpoints_of(tmp_path)[1]
    assert not has_other_layout(checkpoint, recipe)
    assert has_other_layout(checkpoint, dataclasses.replace(recipe, engine="deepspeed"))
    model = nn.Linear(3, 2)
    load_weights(model, checkpoint)
    other = PlainEngine(model, recipe, lambda step: 1.0 / (step + 1), {}, start_step=1)
    other.load_other_layout(checkpoint)
    update(other)
    assert torch.equal(other.model.weight, engine.model.weight)
    assert other.learning_rate() == engine.learning_rate()
