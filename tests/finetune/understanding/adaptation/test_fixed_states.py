"""The head alone on states computed once: the oracle is the forward pass through a frozen encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.understanding.heads.predictor import Predictor
from finetune.understanding.tasks.task import Split

NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "log_every": 1, "epochs": 2}
PLUGGED_IN = {"setting": "translate-train-all", "plug_in": True}


def lines(run_dir: Path) -> list[dict[str, float]]:
    """Losses, gradient norms and validations of a run."""
    read = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{n: v for n, v in line.items() if "/" in n or n == "grad_norm"} for line in read]


@pytest.mark.parametrize("mode", ["out", "in"])
@pytest.mark.parametrize("task", ["pawsx", "udpos", "xquad"])
def test_training_equals_that_behind_a_frozen_encoder(
    task: str, mode: str, train: Callable[..., Path], xtreme_data: Path, tagged_data: Path
) -> None:
    """Losses, norms and validations of every update, and the predictions of the models that are saved."""
    fields: dict[str, Any] = dict(NO_DROPOUT)
    if mode == "in":
        fields |= {**PLUGGED_IN, "data": str(tagged_data), "translated_test": str(xtreme_data / "english")}
    fixed = train(task, "fixed", freeze="encoder", **fields)
    passed = train(task, "passed", freeze_layers=2, **fields)
    found, expected = lines(fixed), lines(passed)
    assert len(found) == len(expected) > 6 and found[0] != found[-1]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    predictors = [Predictor.load(run / "last", None, max_tokens=500) for run in (fixed, passed)]
    translated = str(xtreme_data / "english")
    predictions = [one.predictions(one.read(Split.TEST, "de", str(xtreme_data), translated)) for one in predictors]
    assert predictions[0] == predictions[1]
    weights = [one.model.state_dict() for one in predictors]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=1e-4, atol=1e-5, msg=name)
