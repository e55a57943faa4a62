"""Epochs, ranks and schedules in the recipe of fine-tuning."""

from __future__ import annotations

import pytest

from finetune.recipe import FinetuningRecipe

SOUND = {"output": "run", "init_from": "model"}


def test_epochs_decide_on_updates_validations_and_checkpoints() -> None:
    recipe = FinetuningRecipe(**SOUND, epochs=3, accumulation_steps=2, save_every=7, validate_every=7)
    # 4 micro-batches an update: 10 of them are 3 updates, the last of which reaches into the next epoch.
    resolved = recipe.resolved(num_batches=10, num_ranks=2)
    assert (resolved.steps, resolved.save_every, resolved.validate_every) == (9, 3, 0)
    assert FinetuningRecipe(**SOUND, steps=50).resolved(10, 2).steps == 50


def test_warmup_as_a_share_of_the_updates() -> None:
    recipe = FinetuningRecipe(**SOUND, steps=100, warmup_steps=50, warmup_share=0.04)
    assert [recipe.lr_factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert FinetuningRecipe(**SOUND, steps=100, warmup_steps=4).lr_factor(0) == 0.25
    assert FinetuningRecipe(**SOUND, steps=2, warmup_steps=4).lr_factor(1) == 1.0  # never longer than the run
    assert FinetuningRecipe(**SOUND, steps=2, warmup_steps=4, warmup_share=0.1).lr_factor(0) == 1.0  # a share of none


def test_every_problem_is_reported_at_once() -> None:
    recipe = FinetuningRecipe(
        **{"output": "run", "init": "best", "lr_schedule": "triangular", "lr_power": 0.0, "lr_end": 2.0},
        **{"dropout": 1.0, "patience": -1, "best_by": "bleu", "keep_best": 1, "save_every": 10, "validate_every": 3},
    )
    problems = "\n".join(recipe.problems())
    for word in ("init_from", "init 'best'", "triangular", "lr_power", "lr_end", "dropout", "patience", "bleu"):
        assert word in problems
    assert not FinetuningRecipe(**SOUND, keep_best=1, save_every=10, validate_every=5).problems()


@pytest.mark.parametrize(("schedule", "expected"), [("constant", 1.0), ("inverse_sqrt", 0.5), ("linear", 0.25)])
def test_the_schedule_is_chosen_by_name(schedule: str, expected: float) -> None:
    # Update number 16 of 20 after a warm-up of 4: sqrt(4 / 16); (20 - 16) / (20 - 4) of update index 16 is number 17.
    recipe = FinetuningRecipe(**SOUND, steps=20, warmup_steps=4, lr_schedule=schedule)
    assert recipe.lr_factor(16 if schedule == "linear" else 15) == expected
