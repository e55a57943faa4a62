"""The model used for a run or a checkpoint, and the messages for those that have none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune.model_directory import model_directory
from finetune.selection import Selection
from training.run_directory.kinds import Kind


def write_run(run: Path, field: str, bleu: dict[int, float], has_models: bool = True) -> Path:
    selection = Selection("bleu", "highest")
    for step, value in bleu.items():
        selection.note(step, {"bleu": value})
    for step in (10, 20):
        checkpoint = run / "checkpoints" / f"step-{step:08d}"
        model = checkpoint / "model"
        (model if has_models else checkpoint).mkdir(parents=True)
        (checkpoint / "state.json").write_text(json.dumps({"files": {}, "step": step, **selection.state()}))
        (checkpoint / "recipe.yaml").write_text(field)
        if has_models:
            (model / "config.json").write_text("{}")
    return run


def test_best_checkpoint_of_a_run_is_used_and_reported(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "run", "directions: en-de", {10: 31.0, 20: 30.0})
    first, second = (run / "checkpoints" / f"step-000000{step}" / "model" for step in (10, 20))
    assert model_directory(run, [Kind.TRANSLATION]) == first
    assert capsys.readouterr().err == f"{run}: using the model after update 10, highest bleu (31.0000)\n"
    assert model_directory(second, [Kind.TRANSLATION]) == second
    assert capsys.readouterr().err == "", "it was given"
    (run / "best").symlink_to(first)
    for given, model in ((second.parent, second), (run / "best", first.resolve())):
        assert model_directory(given, [Kind.TRANSLATION]) == model
        assert capsys.readouterr().err == f"{given}: using {model}\n"
    unknown = write_run(tmp_path / "unknown", "directions: en-de", {})
    assert model_directory(unknown, [Kind.TRANSLATION]).parent.name == "step-00000020"
    assert "its newest; no validation shows the best" in capsys.readouterr().err


def test_finished_run_of_a_search_has_its_model_directly(tmp_path: Path, capsys) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert model_directory(tmp_path, [Kind.TASK]) == tmp_path / "model"
    assert capsys.readouterr().err == f"{tmp_path}: using {tmp_path / 'model'}\n"


def test_runs_of_wrong_kinds_are_refused_with_advice(tmp_path: Path) -> None:
    task = write_run(tmp_path / "task", "task: xnli", {10: 1.0})
    expected = "expected what finetune/mt/train.py made, found a run of fine-tuning for a task of XTREME$"
    with pytest.raises(ValueError, match=expected):
        model_directory(task, [Kind.TRANSLATION])
    pretraining = write_run(tmp_path / "pretraining", "objective: mlm", {}, has_models=False)
    export = r"python -m pretrain.export .*pretraining --output MODEL\)$"
    with pytest.raises(ValueError, match=rf"a run of pre-training: export it first \({export}"):
        model_directory(pretraining, [Kind.PRETRAINING, Kind.TASK])
    advice = r"a run of pre-training: fine-tune it first \(finetune/mt/train.py --init_from "
    with pytest.raises(ValueError, match=rf"{advice}MODEL; MODEL is made by {export}"):
        model_directory(pretraining, [Kind.TRANSLATION])
    last = write_run(tmp_path / "over", "objective: mlm", {}) / "last"
    last.symlink_to("checkpoints/step-00000020/model")
    with pytest.raises(ValueError, match=rf"{advice}{last}\)$"):
        model_directory(last.parent, [Kind.TRANSLATION])
    with pytest.raises(ValueError, match=r"step-00000010: has no model; it is a checkpoint of pre-training: export it"):
        model_directory(pretraining / "checkpoints" / "step-00000010", [Kind.PRETRAINING])
    with pytest.raises(ValueError, match="none: expected a model, a checkpoint or a run, found nothing .no such file"):
        model_directory(tmp_path / "none", [Kind.TASK])
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    with pytest.raises(ValueError, match="begun: has no complete checkpoint"):
        model_directory(tmp_path / "begun", [Kind.TASK])


def test_last_model_of_a_pre_training_run_is_used(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "run", "objective: mlm", {})
    model = run / "checkpoints" / "step-00000020" / "model"
    (run / "last").symlink_to(model)
    assert model_directory(run, [Kind.PRETRAINING, Kind.TASK]) == model.resolve()
    assert capsys.readouterr().err == f"{run}: using its last model, {model.resolve()}\n"
