"""The checkpoints of a run: which there are, which are damaged, which one to go on from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from plain_checkpoints import save

from training.checkpoints.finding import checkpoints_of, damage, find_checkpoint


def test_auto_takes_the_newest_and_a_step_itself(engine, recipe, tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(engine, tmp_path, step, recipe)
    assert list(checkpoints_of(tmp_path)) == [10, 15]
    assert find_checkpoint(tmp_path, "auto") == (15, tmp_path / "checkpoints" / "step-00000015")
    assert find_checkpoint(tmp_path, "10") == (10, tmp_path / "checkpoints" / "step-00000010")
    with pytest.raises(ValueError, match="no checkpoint of step 5; there are: 10, 15"):
        find_checkpoint(tmp_path, "5")
    with pytest.raises(ValueError, match=r"already has checkpoints \(newest: step 15\)"):
        find_checkpoint(tmp_path, "no")


def truncate(checkpoint: Path) -> None:
    path = checkpoint / "plain_engine.pt"
    path.write_bytes(path.read_bytes()[:-1])


def lose(checkpoint: Path) -> None:
    (checkpoint / "model" / "config.json").unlink()


def cut_state(checkpoint: Path) -> None:
    (checkpoint / "state.json").write_text('{"step": 1')


def empty_state(checkpoint: Path) -> None:
    (checkpoint / "state.json").write_text("{}")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncate, "bytes instead of"),
        (lose, "model/config.json is missing"),
        (cut_state, "state.json: cannot be read"),
        (empty_state, "state.json: does not list the files"),
    ],
)
def test_auto_passes_over_a_damaged_checkpoint_and_says_so(
    engine, recipe, tmp_path, capsys, harm, message: str
) -> None:
    for step in (5, 10):
        save(engine, tmp_path, step, recipe)
    newest = checkpoints_of(tmp_path)[10]
    harm(newest)
    assert find_checkpoint(tmp_path, "auto") == (5, checkpoints_of(tmp_path)[5])
    told = capsys.readouterr().err
    assert told.startswith(f"skipped {newest}: ") and message in told and told.count("\n") == 1
    with pytest.raises(ValueError, match=r"is damaged: .*choose another step"):
        find_checkpoint(tmp_path, "10")
    harm(checkpoints_of(tmp_path)[5])
    with pytest.raises(ValueError, match="all 2 checkpoints are damaged"):
        find_checkpoint(tmp_path, "auto")


def test_unfinished_saves_are_told(engine, recipe, tmp_path: Path, capsys) -> None:
    save(engine, tmp_path, 5, recipe)
    shutil.copytree(checkpoints_of(tmp_path)[5], tmp_path / "checkpoints" / "step-00000009.partial")
    assert find_checkpoint(tmp_path, "auto") == (5, checkpoints_of(tmp_path)[5])
    assert "step-00000009.partial: its save was not finished" in capsys.readouterr().err


def test_sound_checkpoint_has_no_damage(engine, recipe, tmp_path: Path) -> None:
    save(engine, tmp_path, 5, recipe)
    assert damage(checkpoints_of(tmp_path)[5]) is None
