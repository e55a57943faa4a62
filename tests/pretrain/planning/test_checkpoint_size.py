"""Oracles: a checkpoint that is written, and the one of VECO-large in docs/ds_configs.md."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from pretrain.planning.checkpoint_size import checkpoint_size
from pretrain.planning.memory import Zero
from pretrain.planning.workload import Workload, plan_workload, read_recipe
from training.engine.plain_engine import PlainEngine
from veco import VecoForPreTraining

RECIPES = Path(__file__).resolve().parents[3] / "pretrain" / "recipes"


def test_one_process_writes_so_much(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("engine: plain\nds_config: cpu.json\nhidden_size: 64\nintermediate_size: 256\n")
    workload = plan_workload(read_recipe(path), None, [], 2000)
    engine = PlainEngine(VecoForPreTraining(workload.config), workload.recipe, lambda step: 1.0, {})
    for parameter in engine.parameters:
        parameter.grad = torch.zeros_like(parameter)
    engine.step()
    engine.save(tmp_path / "checkpoint")
    written = sum(file.stat().st_size for file in (tmp_path / "checkpoint").iterdir())
    assert checkpoint_size(workload, Zero(0, 1, "float32", None)).one == pytest.approx(written, rel=0.1)


def large(**fields: int) -> Workload:
    workload = plan_workload(read_recipe(RECIPES / "large.yaml"), None, [], None)
    return dataclasses.replace(workload, recipe=dataclasses.replace(workload.recipe, **fields))


def test_veco_large_was_measured() -> None:
    assert checkpoint_size(large(), Zero(3, 2, "bf16", None)).one == pytest.approx(7.93e9, rel=0.001)


def test_model_in_16_bits_comes_on_top_where_each_rank_has_it() -> None:
    assert checkpoint_size(large(), Zero(1, 8, "bf16", None)).one == 14 * 660_952_210


def test_a_momentum_encoder_is_in_each_checkpoint() -> None:
    alone = large()
    followed = dataclasses.replace(alone, parameters=dataclasses.replace(alone.parameters, momentum_bytes=10**9))
    sizes = [checkpoint_size(workload, Zero(1, 8, "bf16", None)) for workload in (alone, followed)]
    assert sizes[1].one - sizes[0].one == 10**9


def test_most_checkpoints_at_a_time() -> None:
    """The kept ones, and the one that is being written; those of `keep_every` for good."""
    zero = Zero(3, 8, "bf16", None)
    sizes = checkpoint_size(large(steps=240_000, cross_attention_steps=0, save_every=5000, keep_checkpoints=3), zero)
    assert sizes.most == 4 and sizes.total == 4 * sizes.one + 2 * 660_952_210
    many = checkpoint_size(large(steps=240_000, cross_attention_steps=0, keep_checkpoints=3, keep_every=40_000), zero)
    assert many.most == 4 + 6
    assert checkpoint_size(large(steps=100, cross_attention_steps=0, save_every=100), zero).most == 1
