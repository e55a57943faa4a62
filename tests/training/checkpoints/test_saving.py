"""Saves: what they hold, that none of them can harm a run wherever it fails, and the disk beside training."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from failing_files import Killed, failing_files
from plain_checkpoints import DATA, plain_engine, save, update

from training.checkpoints.deleting import clean_up
from training.checkpoints.finding import checkpoints_of, find_checkpoint, read_state
from training.checkpoints.restoring import restore
from training.checkpoints.saving import Background, Contents, LaterCheckpoints, Retention, save_checkpoint, together
from training.engine.plain_engine import PlainEngine
from training.recipe.base import TrainingRecipe

FAILURES = pytest.mark.parametrize("is_kill", [True, False], ids=["killed", "disk_full"])


def test_checkpoint_notes_its_step_layout_versions_and_files(engine, recipe, tmp_path: Path) -> None:
    save(engine, tmp_path, 5, recipe)
    state = read_state(checkpoints_of(tmp_path)[5])
    assert state["step"] == 5 and state["data_fingerprint"] == "abc"
    assert state["layout"] == {"zero_stage": "none", "precision": "float32", "parts": 1}
    assert state["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert set(state["versions"]) == {"torch", "deepspeed", "transformers", "veco"}
    assert set(state["files"]) == {"plain_engine.pt", "recipe.yaml", "model/config.json"}


def has_failed(work: Callable[[], None]) -> bool:
    """Whether work ended by a failure; where what cannot be done was not needed, it may go on."""
    try:
        work()
    except (Killed, OSError):
        return True
    return False


@FAILURES
def test_save_that_fails_anywhere_leaves_a_run_to_go_on_with(engine, recipe, tmp_path: Path, is_kill: bool) -> None:
    """From the checkpoint before until the new one is renamed into place, from the new one from then on."""
    weights, newest = {}, []
    for step in (5, 10, 15):
        update(engine)
        weights[step] = engine.model.weight.detach().clone()
        if step < 15:
            save(engine, tmp_path / "before", step, recipe)
    for fails_at in itertools.count(1):
        run_dir = shutil.copytree(tmp_path / "before", tmp_path / str(fails_at))
        with failing_files(fails_at, is_kill=is_kill) as files:
            fails = has_failed(partial(save, engine, run_dir, 15, recipe))
        if not files.has_failed:
            break
        step, checkpoint = find_checkpoint(run_dir, "auto")
        newest += [step] if fails else []
        assert fails or step == 15
        other = plain_engine(recipe)
        restore(other, checkpoint)
        assert torch.equal(other.model.weight, weights[step])
        clean_up(engine, run_dir)
        save(engine, run_dir, 20, recipe)
        assert list(checkpoints_of(run_dir)) == [step, 20]
        names = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
        assert names == [f"step-{kept:08d}" for kept in (step, 20)], f"left over after {files.calls}"
    assert list(checkpoints_of(run_dir)) == [10, 15]
    assert newest == sorted(newest) and set(newest) == {10, 15}


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A disk that keeps nothing before this is set."""
    is_ready = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda descriptor: is_ready.wait(60))
    return is_ready


def test_training_continues_while_the_disk_is_waited_for(
    engine, recipe, tmp_path: Path, slow_disk: threading.Event
) -> None:
    background, saved = Background(engine), engine.model.weight.detach().clone()
    save_checkpoint(engine, tmp_path, 5, Contents(recipe=recipe, state=DATA), background=background)
    assert not checkpoints_of(tmp_path)
    update(engine)  # goes on, and is no part of what is saved
    slow_disk.set()
    save_checkpoint(engine, tmp_path, 6, Contents(recipe=recipe, state=DATA), background=background)
    assert 5 in checkpoints_of(tmp_path), "one after the other"
    background.wait()
    background.wait()  # of nothing
    assert list(checkpoints_of(tmp_path)) == [5, 6]
    other = plain_engine(recipe)
    restore(other, checkpoints_of(tmp_path)[5])
    assert torch.equal(other.model.weight, saved) and not torch.equal(saved, engine.model.weight)


def test_disk_that_fails_while_training_continues_is_told_later(engine, recipe, tmp_path: Path, monkeypatch) -> None:
    save(engine, tmp_path, 5, recipe)

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    background = Background(engine)
    save_checkpoint(engine, tmp_path, 6, Contents(recipe=recipe, state=DATA), background=background)
    with pytest.raises(OSError, match="the checkpoint could not be written: .*No space left on device"):
        background.wait()
    assert find_checkpoint(tmp_path, "auto") == (5, checkpoints_of(tmp_path)[5])


def test_error_in_training_waits_for_the_save_before_it(engine, recipe, tmp_path: Path) -> None:
    """A whole checkpoint is worth more than a quick end."""
    with pytest.raises(ZeroDivisionError), Background(engine) as background:
        save_checkpoint(engine, tmp_path, 6, Contents(recipe=recipe, state=DATA), background=background)
        _ = 1 / 0
    assert list(checkpoints_of(tmp_path)) == [6]


def test_failure_of_another_rank_is_told(engine) -> None:
    engine.world_size = 3
    engine.sum_over_ranks = lambda values: values + torch.tensor([0, 0, 1])
    with pytest.raises(OSError, match=r"could not be written by ranks \[2\]"):
        together(engine, lambda: None)


def go_back(engine: PlainEngine, run_dir: Path, recipe: TrainingRecipe, start: int, steps: list[int]) -> None:
    """The saves of a run that goes on from `start`."""
    later = LaterCheckpoints(run_dir, start)
    clean_up(engine, run_dir)
    background = Background(engine)
    for step in steps:
        save_checkpoint(
            engine,
            run_dir,
            step,
            Contents(recipe=recipe, state=DATA),
            background=background,
            retention=Retention(later=later),
        )
    background.wait()


def test_going_back_gives_up_what_came_later_with_the_first_new_checkpoint(
    engine, recipe, tmp_path: Path, capsys
) -> None:
    keeps_all = dataclasses.replace(recipe, keep_checkpoints=9, save_every=1)
    for step in (5, 10, 15, 20):
        save(engine, tmp_path, step, keeps_all)
    old = checkpoints_of(tmp_path)
    go_back(engine, tmp_path, keeps_all, 5, [])
    assert list(checkpoints_of(tmp_path)) == [5, 10, 15, 20], "nothing has taken their place"
    assert capsys.readouterr().err == ""
    go_back(engine, tmp_path, keeps_all, 5, [12])
    assert list(checkpoints_of(tmp_path)) == [5, 12], "10 is of the other course of the run, too"
    told = [
        f"deleted {old[step]}: replaced by the new checkpoint of update 12 (resumed from 5)" for step in (10, 15, 20)
    ]
    assert capsys.readouterr().err.splitlines() == told
    go_back(engine, tmp_path, keeps_all, 12, [15, 20])
    go_back(engine, tmp_path, keeps_all, 5, [12, 15])
    assert list(checkpoints_of(tmp_path)) == [5, 12, 15], "what was made anew stays with the next save"


@FAILURES
def test_going_back_happens_with_the_rename_of_the_first_checkpoint_wherever_it_fails(
    engine, recipe, tmp_path: Path, is_kill: bool
) -> None:
    """Before it nothing is lost; after it later checkpoints are gone, with their metrics, even where files are left."""
    keeps_all = dataclasses.replace(recipe, keep_checkpoints=9)
    lines = {step: f'{{"step": {step}}}\n' for step in (5, 8, 10, 12)}
    for step in (5, 10, 12):
        save(engine, tmp_path / "before", step, keeps_all)
    (tmp_path / "before" / "metrics.jsonl").write_text(lines[5] + lines[10] + lines[12])
    moments = []
    for fails_at in itertools.count(1):
        run_dir = shutil.copytree(tmp_path / "before", tmp_path / str(fails_at))
        later = LaterCheckpoints(run_dir, 5)
        clean_up(engine, run_dir)
        (run_dir / "metrics.new.jsonl").write_text(lines[8])
        contents = Contents(recipe=recipe, state=DATA)
        retention = Retention(later=later)
        with failing_files(fails_at, is_kill=is_kill) as files:
            fails = has_failed(partial(save_checkpoint, engine, run_dir, 8, contents, retention=retention))
        found = list(checkpoints_of(run_dir))
        has_gone_back = found == [5, 8]
        assert has_gone_back or (fails and found == [5, 10, 12])
        moments += [has_gone_back] if fails else []
        newest = 8 if has_gone_back else 12
        assert find_checkpoint(run_dir, "auto") == (newest, run_dir / "checkpoints" / f"step-{newest:08d}")
        clean_up(engine, run_dir)
        kept = [5, 8] if has_gone_back else [5, 10, 12]
        assert (run_dir / "metrics.jsonl").read_text() == "".join(lines[step] for step in kept)
        assert sorted(path.name for path in run_dir.iterdir()) == ["checkpoints", "metrics.jsonl"]
        names = sorted(path.name for path in (run_dir / "checkpoints").iterdir())
        assert names == [f"step-{step:08d}" for step in kept], f"left over after {files.calls}"
        for step in (10, 12):
            save(engine, run_dir, step, keeps_all)
        assert list(checkpoints_of(run_dir)) == [5, 10, 12], "saved again, they are not superseded"
        if not files.has_failed:
            break
    assert moments == sorted(moments) and set(moments) == {False, True}, "one moment decides"
