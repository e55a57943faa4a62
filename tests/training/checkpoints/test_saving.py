from __future__ import annotations

import dataclasses
import shutil
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from pretrain.recipe import PretrainRecipe
from training.checkpoints import deleting, saving
from training.checkpoints.deleting import clean_up
from training.checkpoints.finding import checkpoints_of, damage, find_checkpoint, read_state
from training.checkpoints.restoring import has_other_layout, load_weights, restore
from training.checkpoints.saving import Ahead, Background, Contents, Retention, save_checkpoint, together
from training.engine.plain_engine import PlainEngine

DATA = {"data_fingerprint": "abc"}


@pytest.fixture
def recipe(tmp_path: Path) -> PretrainRecipe:
    return PretrainRecipe(output=str(tmp_path), engine="plain", save_every=5, keep_checkpoints=2, learning_rate=0.1)


@pytest.fixture
def engine(recipe: PretrainRecipe) -> PlainEngine:
    torch.manual_seed(0)
    return plain_engine(recipe)


def plain_engine(recipe: PretrainRecipe, start_step: int = 0) -> PlainEngine:
    return PlainEngine(nn.Linear(3, 2), recipe, lambda step: 1.0 / (step + 1), {}, start_step)


def save(engine: PlainEngine, run_dir: Path, step: int, recipe: PretrainRecipe) -> None:
    def add_files(directory: Path) -> None:
        (directory / "model").mkdir()
        (directory / "model" / "config.json").write_text("{}")

    save_checkpoint(engine, run_dir, step, Contents(recipe=recipe, state=DATA, add_files=add_files))


def update(engine: PlainEngine) -> None:
    engine.backward(engine.model(torch.ones(1, 3)).square().sum())
    engine.step()


def test_newest_are_kept_and_auto_takes_the_newest(engine, recipe, tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save(engine, tmp_path, step, recipe)
    assert list(checkpoints_of(tmp_path)) == [10, 15]
    assert find_checkpoint(tmp_path, "auto") == (15, tmp_path / "checkpoints" / "step-00000015")
    assert find_checkpoint(tmp_path, "10") == (10, tmp_path / "checkpoints" / "step-00000010")
    with pytest.raises(ValueError, match="no checkpoint of step 5; there are: 10, 15"):
        find_checkpoint(tmp_path, "5")
    with pytest.raises(ValueError, match=r"already has checkpoints \(newest: step 15\)"):
        find_checkpoint(tmp_path, "no")


def test_every_so_many_are_kept_for_good(engine, recipe, tmp_path: Path) -> None:
    for step in range(5, 40, 5):
        save(engine, tmp_path, step, dataclasses.replace(recipe, keep_every=10))
    assert list(checkpoints_of(tmp_path)) == [10, 20, 30, 35]


def test_state_says_what_was_saved(engine, recipe, tmp_path: Path) -> None:
    save(engine, tmp_path, 5, recipe)
    state = read_state(checkpoints_of(tmp_path)[5])
    assert state["step"] == 5 and state["data_fingerprint"] == "abc"
    assert state["layout"] == {"zero_stage": "none", "precision": "float32", "parts": 1}
    assert state["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert set(state["versions"]) == {"torch", "deepspeed", "transformers", "veco"}
    assert set(state["files"]) == {"plain_engine.pt", "recipe.yaml", "model/config.json"}


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
def test_auto_passes_over_what_is_damaged_and_says_so(engine, recipe, tmp_path, capsys, harm, message: str) -> None:
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


def test_an_interrupted_run_keeps_the_same_checkpoints_in_the_end(engine, recipe, tmp_path: Path) -> None:
    """So that the mean of the last ones is the same."""
    for step in (5, 10):
        save(engine, tmp_path, step, recipe)
    save(engine, tmp_path, 13, recipe)  # an interruption
    assert list(checkpoints_of(tmp_path)) == [10, 13]
    save(engine, tmp_path, 15, recipe)
    assert list(checkpoints_of(tmp_path)) == [10, 15]
    save(engine, tmp_path, 17, dataclasses.replace(recipe, keep_checkpoints=1))
    assert list(checkpoints_of(tmp_path)) == [17]


class Killed(BaseException):
    """Ends a save where it stands, as a kill does: nothing in the code catches it."""


# What a save calls, in its order: in what module it looks the name up.
POINTS = [
    (PlainEngine, "save"),
    (saving, "save_recipe"),
    (saving, "library_versions"),
    (saving.json, "dumps"),
    (saving, "sync_file"),
    (saving, "sync_directory"),
    (saving.os, "replace"),
    (saving, "prune"),
    (deleting, "remove"),
    (saving.shutil, "rmtree"),
]


@pytest.mark.parametrize(("place", "name"), POINTS, ids=[name for _, name in POINTS])
@pytest.mark.parametrize("error", [Killed, OSError("No space left on device")])
def test_save_that_fails_at_any_point_leaves_a_run_to_go_on_with(
    engine, recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: object, name: str, error
) -> None:
    for step in (5, 10):
        save(engine, tmp_path, step, recipe)
    original, calls = getattr(place, name), []

    def fail(*arguments, **options):
        calls.append(name)
        # The first removal of a save finds nothing to remove; the second one is that of the oldest checkpoint.
        if name == "rmtree" and len(calls) < 3:
            return original(*arguments, **options)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail)
        with pytest.raises((Killed, OSError)):
            save(engine, tmp_path, 15, recipe)
    assert calls
    found = find_checkpoint(tmp_path, "auto")
    assert found is not None and found[0] == (15 if name in ("prune", "remove", "rmtree") else 10)
    other = plain_engine(recipe)
    restore(other, found[1])
    assert torch.equal(other.model.weight, engine.model.weight)
    clean_up(engine, tmp_path)
    save(engine, tmp_path, 20, recipe)
    assert list(checkpoints_of(tmp_path)) == [found[0], 20]
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        f"step-{step:08d}" for step in (found[0], 20)
    ]


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A disk that keeps nothing before this is set."""
    is_ready = threading.Event()
    monkeypatch.setattr(saving, "sync_file", lambda path: is_ready.wait(60))
    return is_ready


def test_disk_is_waited_for_beside_training(engine, recipe, tmp_path: Path, slow_disk: threading.Event) -> None:
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


def test_disk_that_fails_beside_training_is_told_later(engine, recipe, tmp_path: Path, monkeypatch) -> None:
    save(engine, tmp_path, 5, recipe)

    def fail(path: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(saving, "sync_file", fail)
    background = Background(engine)
    save_checkpoint(engine, tmp_path, 6, Contents(recipe=recipe, state=DATA), background=background)
    with pytest.raises(OSError, match="the checkpoint could not be written: no space left"):
        background.wait()
    assert find_checkpoint(tmp_path, "auto") == (5, checkpoints_of(tmp_path)[5])


def test_unfinished_saves_are_told(engine, recipe, tmp_path: Path, capsys) -> None:
    save(engine, tmp_path, 5, recipe)
    shutil.copytree(checkpoints_of(tmp_path)[5], tmp_path / "checkpoints" / "step-00000009.partial")
    assert find_checkpoint(tmp_path, "auto") == (5, checkpoints_of(tmp_path)[5])
    assert "step-00000009.partial: its save was not finished" in capsys.readouterr().err


def test_failure_of_another_rank_is_told(engine) -> None:
    engine.world_size = 3
    engine.sum_over_ranks = lambda values: values + torch.tensor([0, 0, 1])
    with pytest.raises(OSError, match=r"could not be written by ranks \[2\]"):
        together(engine, lambda: None)


def go_back(engine: PlainEngine, run_dir: Path, recipe: PretrainRecipe, start: int, steps: list[int]) -> None:
    """The saves of a run that goes on from `start`."""
    ahead = Ahead(run_dir, start)
    clean_up(engine, run_dir)
    background = Background(engine)
    for step in steps:
        save_checkpoint(
            engine,
            run_dir,
            step,
            Contents(recipe=recipe, state=DATA),
            background=background,
            retention=Retention(ahead=ahead),
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
    told = [f"deleted {old[step]}: update 12 came anew after update 5" for step in (10, 15, 20)]
    assert capsys.readouterr().err.splitlines() == told
    go_back(engine, tmp_path, keeps_all, 12, [15, 20])
    go_back(engine, tmp_path, keeps_all, 5, [12, 15])
    assert list(checkpoints_of(tmp_path)) == [5, 12, 15], "what was made anew stays with the next save"


def test_going_back_loses_nothing_when_the_first_save_fails(engine, recipe, tmp_path: Path, monkeypatch) -> None:
    for step in (5, 10):
        save(engine, tmp_path, step, recipe)
    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_recipe", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            go_back(engine, tmp_path, recipe, 5, [8])
    assert list(checkpoints_of(tmp_path)) == [5, 10]


@pytest.mark.parametrize("name", ["sync_directory", "settle_lines", "remove", "prune"])
def test_going_back_that_is_killed_once_its_first_checkpoint_is_whole_has_gone_back(
    engine, recipe, tmp_path: Path, monkeypatch, name: str
) -> None:
    """At each point after the new checkpoint has its name."""
    for step in (5, 10, 12):
        save(engine, tmp_path, step, dataclasses.replace(recipe, keep_checkpoints=9))
    lines = {step: f'{{"step": {step}}}\n' for step in (5, 8, 10, 12)}
    (tmp_path / "metrics.jsonl").write_text(lines[5] + lines[10] + lines[12])
    place = deleting if name in ("settle_lines", "remove") else saving
    original = getattr(place, name)

    def kill(*arguments: object) -> None:
        if name == "sync_directory" and arguments[0].name != "checkpoints":
            return original(*arguments)
        raise Killed

    ahead = Ahead(tmp_path, 5)
    clean_up(engine, tmp_path)
    (tmp_path / "metrics.new.jsonl").write_text(lines[8])
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(place, name, kill)
        save_checkpoint(engine, tmp_path, 8, Contents(recipe=recipe, state=DATA), retention=Retention(ahead=ahead))
    assert list(checkpoints_of(tmp_path)) == [5, 8]
    assert find_checkpoint(tmp_path, "auto") == (8, tmp_path / "checkpoints" / "step-00000008")
    if name != "prune":
        assert (tmp_path / "checkpoints" / "step-00000012").is_dir(), "the kill came before it was deleted"
    with pytest.raises(ValueError, match="no checkpoint of step 12; there are: 5, 8"):
        find_checkpoint(tmp_path, "12")
    clean_up(engine, tmp_path)
    assert (tmp_path / "metrics.jsonl").read_text() == lines[5] + lines[8]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "metrics.jsonl"]
    assert [path.name[-2:] for path in sorted((tmp_path / "checkpoints").iterdir())] == ["05", "08"]
    for step in (10, 12):
        save(engine, tmp_path, step, dataclasses.replace(recipe, keep_checkpoints=9))
    assert list(checkpoints_of(tmp_path)) == [5, 10, 12], "made anew they are not given up"


def test_damaged_checkpoint_gives_up_none(engine, recipe, tmp_path: Path, monkeypatch) -> None:
    for step in (5, 10):
        save(engine, tmp_path, step, recipe)
    ahead = Ahead(tmp_path, 5)
    with monkeypatch.context() as patch:
        patch.setattr(saving, "give_up_noted", lambda run_dir: None)
        patch.setattr(saving, "prune", lambda *arguments: None)
        save_checkpoint(engine, tmp_path, 8, Contents(recipe=recipe, state=DATA), retention=Retention(ahead=ahead))
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


def test_resumed_engine_goes_on_exactly(engine, recipe, tmp_path: Path) -> None:
    update(engine)
    save(engine, tmp_path, 1, recipe)
    update(engine)
    other = plain_engine(recipe, start_step=1)
    restore(other, checkpoints_of(tmp_path)[1])
    update(other)
    assert torch.equal(other.model.weight, engine.model.weight)
    assert other.learning_rate() == engine.learning_rate() == pytest.approx(0.05)


def test_other_layout_goes_on_equally(engine, recipe, tmp_path: Path) -> None:
    """By the way that leads between numbers of ranks and ZeRO stages."""
    update(engine)
    save(engine, tmp_path, 1, recipe)
    update(engine)
    checkpoint = checkpoints_of(tmp_path)[1]
    assert not has_other_layout(checkpoint, recipe)
    assert has_other_layout(checkpoint, dataclasses.replace(recipe, engine="deepspeed"))
    model = nn.Linear(3, 2)
    load_weights(model, checkpoint)
    other = PlainEngine(model, recipe, lambda step: 1.0 / (step + 1), {}, start_step=1)
    other.load_other_layout(checkpoint)
    update(other)
    assert torch.equal(other.model.weight, engine.model.weight)
    assert other.learning_rate() == engine.learning_rate()


def test_damage_of_a_sound_checkpoint_is_none(engine, recipe, tmp_path: Path) -> None:
    save(engine, tmp_path, 5, recipe)
    assert damage(checkpoints_of(tmp_path)[5]) is None
