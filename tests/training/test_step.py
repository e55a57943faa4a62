from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pretrain.recipe import PretrainRecipe
from training.engine.plain_engine import PlainEngine
from training.loop import check_ranks_agree
from training.step import Batch, StepContext, sources_of, train_step


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
    ours = train_step(split, parts, mean_square, count, StepContext("here"))
    reference = train_step(undivided, whole, mean_square, count, StepContext("here"))
    assert ours.loss == pytest.approx(reference.loss, rel=1e-6)
    assert ours.grad_norm == pytest.approx(reference.grad_norm, rel=1e-6)
    assert ours.num_tokens == reference.num_tokens == 4
    torch.testing.assert_close(split.model.weight, undivided.model.weight)


def test_non_finite_loss_names_the_place_and_changes_nothing() -> None:
    engine = engine_of(2)
    before = engine.model.weight.clone()
    batches = [batch_of([1.0], [1]), batch_of([float("nan")], [1])]
    context = StepContext("update 7, mono batch", source_of=lambda part, rank: f"sentence {part} of rank {rank}")
    with pytest.raises(FloatingPointError) as error:
        train_step(engine, batches, mean_square, count, context)
    assert str(error.value) == (
        "update 7, mono batch: the loss is not finite (square nan; rank 0: sentence 1 of rank 0); "
        "the weights were not changed"
    )
    assert torch.equal(engine.model.weight, before)


def test_non_finite_gradient_names_the_place() -> None:
    engine = engine_of(1)
    engine.model.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = engine.model.weight.clone()
    context = StepContext("update 7", source_of=lambda part, rank: f"sentence {part} of rank {rank}")
    told = r"update 7: the gradient norm is (inf|nan); .* it is the sum over rank 0: sentence 0 of rank 0"
    with pytest.raises(FloatingPointError, match=told):
        train_step(engine, [batch_of([1.0], [1])], mean_square, count, context)
    assert torch.equal(engine.model.weight, before)


def test_sources_of_many_micro_batches_are_told_by_their_ends() -> None:
    context = StepContext("here", source_of=lambda part, rank: f"sentence {part}")
    assert sources_of(context, 1, 2) == "rank 0: sentence 0; rank 1: sentence 0"
    assert sources_of(context, 3, 2) == "rank 0: sentence 0 to rank 1: sentence 2"


def test_skipped_update_changes_neither_weights_nor_moments() -> None:
    """And it leaves no gradient behind: what follows is as if it had not been, but for the learning rate."""
    engine, reference = engine_of(2), engine_of(2)
    parts = [batch_of([1.0, 2.0], [1, 1]), batch_of([3.0, 1.0], [1, 0])]
    far = [batch_of([90.0, 2.0], [1, 1])] * 2
    for chosen in (engine, reference):
        train_step(chosen, parts, mean_square, count, StepContext("here"))
    skipped = train_step(engine, far, mean_square, count, StepContext("here", is_spike=lambda loss: loss > 100))
    assert skipped.skipped and skipped.loss > 100 and skipped.grad_norm is None
    for chosen in (engine, reference):
        train_step(chosen, parts, mean_square, count, StepContext("here"))
    assert torch.equal(engine.model.weight, reference.model.weight)
    assert engine.schedule.step == reference.schedule.step + 1


def test_wish_to_stop_of_one_rank_reaches_all() -> None:
    engine = engine_of(1)
    assert not train_step(engine, [batch_of([1.0], [1])], mean_square, count, StepContext("here")).wants_to_stop
    engine.sum_over_ranks = lambda values: values + torch.tensor([0, 0, 1]) if len(values) == 3 else values
    assert train_step(engine, [batch_of([1.0], [1])], mean_square, count, StepContext("here")).wants_to_stop


def test_ranks_that_differ_are_named() -> None:
    engine = engine_of(1)
    check_ranks_agree(engine, checkpoint=1, recipe="r", data="d")
    engine.world_size = 3
    others = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 1, 1]])
    wrong = torch.tensor([[0, 0, 0], [0, 0, 5], [0, 0, 0]])
    engine.sum_over_ranks = lambda values: values + others * values[0] + wrong
    with pytest.raises(ValueError, match=r"ranks \[1\] differ from rank 0 in data; do all nodes see the same"):
        check_ranks_agree(engine, checkpoint=1, recipe="r", data="d")
