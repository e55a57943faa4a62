from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pretrain.engine import PlainEngine
from pretrain.loop import check_ranks_agree
from pretrain.recipe import PretrainRecipe
from pretrain.step import Batch, train_step


def mean_square(model: nn.Module, batch: Batch, num_items: Tensor) -> dict[str, Tensor]:
    return {"square": (model(batch["x"]).square().sum(dim=1) * batch["attention_mask"][:, 0]).sum() / num_items[0]}


def count(batch: Batch) -> Tensor:
    return batch["attention_mask"].sum().reshape(1)


def batch_of(values: list[float], mask: list[int]) -> Batch:
    return {"x": torch.tensor(values)[:, None].expand(-1, 3), "attention_mask": torch.tensor(mask)[:, None]}


def engine_of(accumulation_steps: int) -> PlainEngine:
    torch.manual_seed(0)
    recipe = PretrainRecipe(output="x", accumulation_steps=accumulation_steps, learning_rate=0.1)
    return PlainEngine(nn.Linear(3, 2), recipe, lambda step: 1.0, {})


def test_unequal_micro_batches_give_the_mean_over_all_items() -> None:
    """Three real items in one micro-batch and one in the other: every item weighs a quarter."""
    parts = [batch_of([1.0, 2.0, 3.0], [1, 1, 1]), batch_of([4.0, 9.0, 9.0], [1, 0, 0])]
    whole = [batch_of([1.0, 2.0, 3.0, 4.0], [1, 1, 1, 1])]
    split, undivided = engine_of(2), engine_of(1)
    ours = train_step(split, parts, mean_square, count, "here")
    reference = train_step(undivided, whole, mean_square, count, "here")
    assert ours.loss == pytest.approx(reference.loss, rel=1e-6)
    assert ours.grad_norm == pytest.approx(reference.grad_norm, rel=1e-6)
    assert ours.num_tokens == reference.num_tokens == 4
    torch.testing.assert_close(split.model.weight, undivided.model.weight)


def test_non_finite_loss_names_the_place_and_changes_nothing() -> None:
    engine = engine_of(1)
    before = engine.model.weight.clone()
    with pytest.raises(RuntimeError, match=r"step 7, mono batch: loss is not finite"):
        train_step(engine, [batch_of([float("nan")], [1])], mean_square, count, "step 7, mono batch")
    assert torch.equal(engine.model.weight, before)


def test_ranks_that_differ_are_named() -> None:
    engine = engine_of(1)
    check_ranks_agree(engine, 1, 2)
    engine.world_size = 3
    engine.sum_over_ranks = lambda values: values + torch.tensor([0, 5, values[0]])
    with pytest.raises(ValueError, match=r"ranks \[1\] differ from rank 0"):
        check_ranks_agree(engine, 1, 2)
