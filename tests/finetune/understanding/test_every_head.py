"""Each head from a task file to scores: plugged out, plugged in, and with another encoder than VECO."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from head_worlds import WORLDS
from small_encoders import write_encoder

from finetune.understanding import evaluate, predict
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.understanding_task import UnderstandingTask
from training.recipe.parsing import build_recipe
from training.run import train_run

TINY = {
    "engine": "plain",
    "ds_config": "zero3_fp32.json",
    "max_length": 24,
    "max_question_length": 8,
    "batch_size": 8,
    "epochs": 6,
    "learning_rate": 5e-3,
    "warmup_share": 0.2,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "loader_workers": 0,
}
# What a model that has learned the task reaches, far above chance (a third to a half; no correlation).
LEARNED = {"sequence": 90, "multilabel": 85, "regression": 85, "context_word": 90, "ranking": 95, "choice": 90}


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.run.plot_curves", lambda run_dir: "nothing: drawing takes a second")


@pytest.fixture
def train(worlds: Path, tmp_path: Path) -> Callable[..., tuple[Path, list[dict[str, Any]]]]:
    """A function that trains for the task of a head; it returns the run's directory and its validations."""

    def run(head: str, init_from: Path, **fields: Any) -> tuple[Path, list[dict[str, Any]]]:
        own = {"task": str(worlds / f"{head}.yaml"), "data": str(worlds), "init_from": str(init_from)}
        recipe = build_recipe(UnderstandingRecipe, {**TINY, **own, "output": str(tmp_path / "run"), **fields}, None)
        train_run(recipe, UnderstandingTask.of_run)
        lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        return tmp_path / "run", [line for line in lines if "valid/average" in line]

    return run


def scores_of(head: str, run: Path, worlds: Path, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Any:
    """The scores of the test by the public commands."""
    output = run.parent / "predictions"
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, (run, "--data", worlds, "--output", output, *arguments))])
    predict.main()
    task = str(worlds / f"{head}.yaml")
    places = ("--predictions", output, "--labels", worlds, "--json", run.parent / "scores.json")
    monkeypatch.setattr(sys, "argv", ["evaluate", "--task", task, *map(str, places)])
    evaluate.main()
    return json.loads((run.parent / "scores.json").read_text())[head]


@pytest.mark.parametrize("head", WORLDS)
def test_a_head_is_learned_in_english(
    head: str, train: Any, worlds: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, validations = train(head, tiny_model)
    metrics = WORLDS[head][2]
    best = max(line[f"valid/en/{metrics[0]}"] for line in validations)
    assert best >= LEARNED[head]
    scores = scores_of(head, run, worlds, monkeypatch)
    assert {language: list(own) for language, own in scores.items()} == dict.fromkeys(("en", "de", "avg"), metrics)


@pytest.mark.parametrize("head", WORLDS)
def test_a_head_is_learned_from_translations_plugged_in(
    head: str, train: Any, worlds: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """German is predicted from the mean of its logits and those of its translation; the head is loaded as it was."""
    fields = {
        "setting": "translate-train-all",
        "plug_in": True,
        "translated_test": str(worlds / "english"),
        "pair_prediction": "average",
    }
    run, validations = train(head, tiny_model, **fields)
    metric = WORLDS[head][2][0]
    assert max(line[f"valid/de/{metric}"] for line in validations) >= LEARNED[head]
    scores = scores_of(head, run, worlds, monkeypatch, "--translated-test", worlds / "english")
    assert scores["de"][metric] >= LEARNED[head] - 15, "other sentences than dev's"


@pytest.mark.parametrize(
    ("head", "name"), [*((head, "bert") for head in WORLDS), ("context_word", "modernbert"), ("choice", "roberta")]
)
def test_a_head_of_another_encoder(
    head: str,
    name: str,
    train: Any,
    worlds: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_encoder(name, tmp_path / name)
    run, validations = train(head, tmp_path / name, epochs=2)
    assert len(validations) == 2
    scores = scores_of(head, run, worlds, monkeypatch)
    assert set(scores) == {"en", "de", "avg"}
