"""What a path leads to, and the links of a run to its models."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from training.run_directory.kinds import (
    BEST,
    LAST,
    Kind,
    is_checkpoint,
    is_model,
    is_run,
    kind_of,
    link_model,
    no_model,
    what_is,
)

FIELDS = {"objective: mlm": Kind.PRETRAINING, "directions: en-de": Kind.TRANSLATION, "task: xnli": Kind.TASK}


def checkpoint(run: Path, step: int, field: str) -> Path:
    directory = run / "checkpoints" / f"step-{step:08d}"
    (directory / "model").mkdir(parents=True)
    for name, text in (("state.json", '{"files": {}}'), ("recipe.yaml", field), ("model/config.json", "{}")):
        (directory / name).write_text(text)
    (directory / "config.json").write_text("{}")  # as pre-training has it
    return directory


@pytest.mark.parametrize("field", FIELDS)
def test_kinds_of_runs_and_checkpoints(field: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3, field)
    assert is_run(tmp_path) and is_checkpoint(path) and is_model(path / "model")
    assert not is_checkpoint(tmp_path) and not is_model(path) and not is_run(path)
    assert kind_of(tmp_path) is kind_of(path) is FIELDS[field]
    assert what_is(tmp_path) == f"a run of {FIELDS[field].value}"
    assert what_is(path) == f"a checkpoint of {FIELDS[field].value}"


def test_where_the_model_is_that_was_meant(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 3, "objective: mlm")
    link_model(tmp_path / LAST, path / "model")
    assert no_model(tmp_path) == f"a run of pre-training: give its model, {tmp_path / LAST}"
    assert no_model(path) == f"a checkpoint of pre-training: give its model, {path / 'model'}"
    (path / "model" / "config.json").unlink()
    for given, name in ((tmp_path, "run"), (path, "checkpoint")):
        advice = f"export it first (python -m pretrain.export {given} --output MODEL)"
        assert no_model(given) == f"a {name} of pre-training: {advice}"
    finetuned = checkpoint(tmp_path / "finetuned", 3, "task: xnli") / "model"
    link_model(tmp_path / "finetuned" / BEST, finetuned)
    assert no_model(tmp_path / "finetuned").endswith(f"give its model, {tmp_path / 'finetuned' / BEST}")
    assert no_model(tmp_path / "none") == "nothing (no such file or directory)"


def test_what_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert what_is(tmp_path / "none") == "nothing (no such file or directory)"
    assert what_is(tmp_path / "file") == "a file"
    assert what_is(tmp_path) == "no run, checkpoint or model"
    assert kind_of(tmp_path / "run") is Kind.UNKNOWN


def test_link_follows_the_models_and_goes_with_them(tmp_path: Path) -> None:
    link = tmp_path / BEST
    for step in (1, 2):
        path = checkpoint(tmp_path, step, "task: xnli")
        link_model(link, path / "model")
        assert os.readlink(link) == f"checkpoints/step-{step:08d}/model", "relative: a run may be moved"
    link_model(link, tmp_path / "checkpoints" / "step-00000009" / "model")
    assert not os.path.lexists(link)
    link_model(link, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints"]


def test_what_a_user_put_there_stays(tmp_path: Path, capsys) -> None:
    model = checkpoint(tmp_path, 1, "task: xnli") / "model"
    mine = tmp_path / BEST
    mine.mkdir()
    for wanted in (model, None):
        link_model(mine, wanted)
        assert mine.is_dir() and not mine.is_symlink()
    mine.rmdir()
    mine.symlink_to("/somewhere/else")
    for wanted in (model, None):
        link_model(mine, wanted)
        assert os.readlink(mine) == "/somewhere/else"
    assert capsys.readouterr().err == f"{mine} was not created by this run; left unchanged\n" * 4


def test_file_system_without_links(tmp_path: Path, monkeypatch, capsys) -> None:
    def refuse(path: Path, target: str) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    model = checkpoint(tmp_path, 1, "task: xnli") / "model"
    link_model(tmp_path / BEST, model)
    told = f"{tmp_path / BEST} cannot be made (Operation not supported); the model is {model}\n"
    assert capsys.readouterr().err == told
