"""Best checkpoints and patience, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune.selection import Selection, best_checkpoints

LOSSES = {10: 3.0, 20: 2.0, 30: 2.5, 40: 2.0, 50: float("nan"), 60: 2.1}


def noted(selection: Selection, values: dict[int, float]) -> Selection:
    for step, value in values.items():
        selection.note(step, {selection.best_by: value, "other": 1.0})
    return selection


def test_best_first_and_the_earlier_of_equals() -> None:
    assert noted(Selection("nll", "lowest"), LOSSES).ranked() == [20, 40, 60, 30, 10]
    assert noted(Selection("bleu", "highest"), LOSSES).ranked() == [10, 30, 60, 20, 40]


def test_patience_counts_validations_since_the_best() -> None:
    selection = Selection("nll", "lowest", patience=3)
    over = [selection.note(step, {"nll": value}) for step, value in LOSSES.items()]
    # Best after 20; an equal one at 40 is no better, one that is no number counts too.
    assert over == [False, False, False, False, True, True]
    assert not noted(Selection("nll", "lowest", patience=0), LOSSES).is_over()
    assert not Selection("nll", "lowest", patience=1).is_over()


def test_only_checkpoints_that_are_there_are_kept() -> None:
    selection = noted(Selection("nll", "lowest", keep_best=2), LOSSES)
    assert selection.kept([10, 30, 60]) == [60, 30]
    assert noted(Selection("nll", "lowest"), LOSSES).kept([10, 30]) == []


def checkpoint(run_dir: Path, step: int, state: dict) -> None:
    directory = run_dir / "checkpoints" / f"step-{step:08d}"
    directory.mkdir(parents=True)
    (directory / "state.json").write_text(json.dumps({"files": {}, **state}))


def test_what_a_checkpoint_holds_is_read_back(tmp_path: Path) -> None:
    selection = noted(Selection("nll", "lowest", patience=2), LOSSES)
    checkpoint(tmp_path, 20, {})
    checkpoint(tmp_path, 40, {})
    checkpoint(tmp_path, 60, selection.state())
    assert [path.name for path in best_checkpoints(tmp_path, 2)] == ["step-00000020", "step-00000040"]
    resumed = Selection("nll", "lowest", patience=2)
    resumed.load_state(json.loads((tmp_path / "checkpoints" / "step-00000060" / "state.json").read_text()))
    assert resumed.ranked() == selection.ranked() and resumed.is_over()
    with pytest.raises(ValueError, match="3 validated checkpoints, but the best 4 were asked for"):
        best_checkpoints(tmp_path, 4)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no complete checkpoint"):
        best_checkpoints(tmp_path, 1)
    checkpoint(tmp_path, 5, {})
    with pytest.raises(ValueError, match="notes no validations"):
        best_checkpoints(tmp_path, 1)
    with pytest.raises(ValueError, match="goal 'least'"):
        Selection("nll", "least")
