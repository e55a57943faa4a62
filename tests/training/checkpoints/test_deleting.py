"""Which checkpoints stay, and what a run deletes that a kill has left."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from failing_files import Killed, failing_files
from plain_checkpoints import DATA, save

from training.checkpoints.deleting import clean_up
from training.checkpoints.finding import checkpoints_of, find_checkpoint
from training.checkpoints.saving import Contents, LaterCheckpoints, Retention, save_checkpoint


def test_checkpoints_that_keep_every_divides_are_kept_for_good(engine, recipe, tmp_path: Path) -> None:
    for step in range(5, 40, 5):
        save(engine, tmp_path, step, dataclasses.replace(recipe, keep_every=10))
    assert list(checkpoints_of(tmp_path)) == [10, 20, 30, 35]


def test_interrupted_run_keeps_the_same_checkpoints_in_the_end(engine, recipe, tmp_path: Path) -> None:
    """So that the mean of the last ones is the same."""
    for step in (5, 10):
        save(engine, tmp_path, step, recipe)
    save(engine, tmp_path, 13, recipe)  # an interruption
    assert list(checkpoints_of(tmp_path)) == [10, 13]
    save(engine, tmp_path, 15, recipe)
    assert list(checkpoints_of(tmp_path)) == [10, 15]
    save(engine, tmp_path, 17, dataclasses.replace(recipe, keep_checkpoints=1))
    assert list(checkpoints_of(tmp_path)) == [17]


def test_changed_save_every_deletes_no_more_than_the_oldest(engine, recipe, tmp_path: Path) -> None:
    """What was saved in its turn is told by the checkpoint's own recipe."""
    five = dataclasses.replace(recipe, keep_checkpoints=5)
    for step in (5, 10, 15, 20, 23):  # the last one is an interruption
        save(engine, tmp_path, step, five)
    for step in (28, 35):
        save(engine, tmp_path, step, dataclasses.replace(five, save_every=7))
    assert list(checkpoints_of(tmp_path)) == [10, 15, 20, 28, 35]
    (checkpoints_of(tmp_path)[15] / "recipe.yaml").write_text("[")  # damaged: no reason to end a run
    save(engine, tmp_path, 42, dataclasses.replace(five, save_every=7))
    assert list(checkpoints_of(tmp_path)) == [15, 20, 28, 35, 42]


def test_damaged_checkpoint_gives_up_none(engine, recipe, tmp_path: Path) -> None:
    """A run that went back was killed when its first checkpoint was whole, before it deleted those that came later."""
    for step in (5, 10):
        save(engine, tmp_path, step, recipe)
    fails_at = 0
    while 8 not in checkpoints_of(tmp_path):
        fails_at += 1
        contents, retention = Contents(recipe=recipe, state=DATA), Retention(later=LaterCheckpoints(tmp_path, 5))
        with pytest.raises(Killed), failing_files(fails_at, is_kill=True):
            save_checkpoint(engine, tmp_path, 8, contents, retention=retention)
    assert list(checkpoints_of(tmp_path)) == [5, 8]
    (tmp_path / "checkpoints" / "step-00000008" / "recipe.yaml").unlink()
    assert find_checkpoint(tmp_path, "auto") == (10, tmp_path / "checkpoints" / "step-00000010")
    clean_up(engine, tmp_path)
    assert 10 in checkpoints_of(tmp_path)


def test_lines_of_a_run_that_went_back_and_died_without_a_checkpoint_go_with_the_next_start(engine, tmp_path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 9}\n')
    (tmp_path / "metrics.new.jsonl").write_text('{"step": 7}\n')
    clean_up(engine, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 9}\n'
