"""The shipped recipes hold the values that VECO (ACL 2021) publishes, sections 3 and 6.1 and its appendix."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from finetune.mt.recipe import TranslationRecipe
from training.recipe.parsing import build_recipe, read_yaml

RECIPES = Path(__file__).resolve().parents[3] / "finetune" / "mt" / "recipes"
BOTH = {
    **{"label_smoothing": 0.2, "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "clip_norm": 0.1},
    **{"weight_decay": 0.01, "warmup_steps": 16_000, "steps": 100_000, "lr_schedule": "polynomial", "lr_power": 1.0},
    **{"lr_end": 0.0, "decoder_layers": 6, "decoder_layers_from": "last", "tie_self_attention": True},
    **{"init": "pretrained", "cross_attention": "pretrained", "keep_checkpoints": 10},
}
PUBLISHED = {
    "wmt14_en_de": {**BOTH, "learning_rate": 1e-4, "dropout": 0.3, "batch_tokens": 64 * 1024},
    "wmt14_en_fr": {**BOTH, "learning_rate": 2e-4, "dropout": 0.1, "batch_tokens": 256 * 1024},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_values_are_the_published_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECO_CORPORA", "/corpora")
    monkeypatch.setenv("VECO_RUNS", "/runs")
    path = RECIPES / f"{name}.yaml"
    recipe = build_recipe(TranslationRecipe, read_yaml(path), path)
    values = dataclasses.asdict(recipe)
    assert {field: values[field] for field in PUBLISHED[name]} == PUBLISHED[name]
