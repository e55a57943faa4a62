"""The head alone on states computed once: the oracle is the forward pass through a frozen encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from head_worlds import WORLDS
from small_encoders import ENCODERS, write_encoder
from transformers import AutoModel
from xtreme_files import TINY

from finetune.understanding.heads.predictor import Predictor
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.tasks.task import Split
from finetune.understanding.understanding_task import UnderstandingTask
from training.engine.processes import ConnectedRanks
from training.recipe.parsing import build_recipe
from veco.labels import IGNORED

ALONE = ConnectedRanks(0, 1, torch.device("cpu"))
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "log_every": 1, "epochs": 2}
PLUGGED_IN = {"setting": "translate-train-all", "plug_in": True}
TASKS = ("pawsx", "udpos", "xquad")  # of the three heads: a label of a sequence, tags, an answer


def lines(run_dir: Path) -> list[dict[str, float]]:
    """Losses and gradient norms of all updates, and validations."""
    read = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{n: v for n, v in line.items() if "/" in n or n == "grad_norm"} for line in read]


@pytest.mark.parametrize("mode", ["out", "in"])
@pytest.mark.parametrize("task", TASKS)
def test_training_equals_that_behind_a_frozen_encoder(
    task: str, mode: str, train: Callable[..., Path], xtreme_data: Path, tagged_data: Path
) -> None:
    """And so do the predictions of the models that are saved."""
    fields: dict[str, Any] = dict(NO_DROPOUT)
    if mode == "in":
        fields |= {**PLUGGED_IN, "data": str(tagged_data), "translated_test": str(xtreme_data / "english")}
    fixed = train(task, "fixed", freeze="encoder", **fields)
    passed = train(task, "passed", freeze_layers=2, **fields)
    found, expected = lines(fixed), lines(passed)
    assert len(found) == len(expected) > 6 and found[0] != found[-2]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)
    predictors = [Predictor.load(run / "last", None, max_tokens=500) for run in (fixed, passed)]
    translated = str(xtreme_data / "english")
    predictions = [one.predictions(one.read(Split.TEST, "de", str(xtreme_data), translated)) for one in predictors]
    assert predictions[0] == predictions[1]


@pytest.mark.parametrize("mode", ["out", "in"])
@pytest.mark.parametrize("head", WORLDS)
def test_training_of_other_heads_equals_that_behind_a_frozen_encoder(
    head: str, mode: str, train: Callable[..., Path], worlds: Path
) -> None:
    fields = {**NO_DROPOUT, "epochs": 1, "data": str(worlds)}
    if mode == "in":
        fields |= {**PLUGGED_IN, "translated_test": str(worlds / "english")}
    task = str(worlds / f"{head}.yaml")
    found, expected = (
        lines(train(task, name, **way, **fields))
        for name, way in (("fixed", {"freeze": "encoder"}), ("passed", {"freeze_layers": 2}))
    )
    assert len(found) == len(expected) > 4
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-4)  # correlations of predictions that are nearly constant


def test_both_of_a_pair_may_decide(train: Callable[..., Path], xtreme_data: Path) -> None:
    fields = {**NO_DROPOUT, **PLUGGED_IN, "pair_prediction": "average", "epochs": 1, "learning_rate": 5e-2}
    fields["translated_test"] = str(xtreme_data / "english")
    fixed = train("pawsx", "fixed", freeze="encoder", **fields)
    passed = train("pawsx", "passed", freeze_layers=2, **fields)
    assert lines(fixed)[-1] == pytest.approx(lines(passed)[-1])


@pytest.fixture(scope="module", params=ENCODERS)
def other_encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("encoder") / request.param
    write_encoder(request.param, directory)
    return directory


def built(model: Path, data: Path, task: str, **fields: Any) -> UnderstandingTask:
    """A task with the head alone, before its states are computed."""
    own = {"task": task, "data": str(data), "init_from": str(model), "output": "run", "freeze": "encoder"}
    return UnderstandingTask(build_recipe(UnderstandingRecipe, {**TINY, **own, **fields}, None))


@pytest.mark.parametrize("task", TASKS)
def test_states_are_those_of_any_encoder(task: str, other_encoder: Path, xtreme_data: Path) -> None:
    """transformers' encoder gives the same states, the whole model the same loss."""
    trained = built(other_encoder, xtreme_data, task)
    rows, pad = trained.rows, trained.encoder.pad
    trained.prepare(ALONE)
    batch, fixed = (some.batch(np.arange(5), pad) for some in (rows, trained.rows))
    encoder = AutoModel.from_pretrained(other_encoder, dtype=torch.float32).eval()
    with torch.no_grad():
        names = ("input_ids", "attention_mask", "token_type_ids")
        states = encoder(**{name: batch[name] for name in names if name in batch}).last_hidden_state
        found = trained.head.loss(trained.head.labelled(trained.model.eval(), fixed))
        expected = trained.head.loss(trained.head.labelled(trained.adapted.whole({})[0], batch))
    is_kept = batch["attention_mask"].bool()
    if task == "udpos":
        is_kept &= batch["labels"].ne(IGNORED)
    elif trained.adapted.reads_first_alone:
        is_kept &= torch.arange(is_kept.shape[1]) == 0
    is_kept[:, 0] = True
    torch.testing.assert_close(fixed["inputs_embeds"][fixed["attention_mask"].bool()], states[is_kept])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
