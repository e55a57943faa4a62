"""Checkpoints of a run: each a directory that appears whole, by one rename, or not at all."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from data_tools.cli import one_line
from data_tools.files import sync_directory, sync_file
from pretrain.engine import Engine, layout_of
from pretrain.launch import tell
from pretrain.metrics_lines import HELD_FILE, settle_lines
from pretrain.recipe import TrainingRecipe, read_yaml, save_recipe
from pretrain.zero_shards import checkpoint_weights

STATE_FILE = "state.json"
RECIPE_FILE = "recipe.yaml"
GIVES_UP_FILE = "gives_up.json"  # in a checkpoint: which others it replaces, until they are deleted
PARTIAL, DELETED = ".partial", ".deleted"  # endings of directories that a kill may leave behind
# Libraries whose versions a checkpoint notes.
LIBRARIES = ("torch", "deepspeed", "transformers", "veco")


class Background:
    """Work that rank 0 does beside training: bringing a checkpoint that is written to the disk and to its name."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seconds = 0.0  # that the last work took
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Begin `work`; what was begun before must be over."""

        def timed() -> None:
            started = time.monotonic()
            try:
                work()
            except Exception as error:  # raised again by `join`
                self._error = error
            self.seconds = time.monotonic() - started

        assert self._thread is None, "the work before is not over"
        self._thread = threading.Thread(target=timed)
        self._thread.start()

    def join(self) -> None:
        """Return when the work is over; raises what it raised. It stays with this rank, unlike `wait`."""
        if self._thread is not None:
            self._thread.join()
        self._thread, error, self._error = None, self._error, None
        if error is not None:
            raise error

    def wait(self) -> None:
        """`join` on every rank; raises OSError on all where it does on one."""
        together(self.engine, self.join)


def checkpoints_of(run_dir: Path) -> dict[int, Path]:
    """Step -> directory of every complete checkpoint of a run, oldest first, without those that were given up."""
    found = complete_checkpoints(run_dir)
    gone = {number for step, path in found.items() for number in given_up_by(path).steps if number != step}
    return {step: path for step, path in found.items() if step not in gone}


def complete_checkpoints(run_dir: Path) -> dict[int, Path]:
    """What `checkpoints_of` returns, and those that were given up and are still there."""
    found = {}
    for path in (run_dir / "checkpoints").glob("step-*"):
        if (match := re.fullmatch(r"step-(\d+)", path.name)) and (path / STATE_FILE).is_file():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def read_state(checkpoint: Path) -> dict[str, Any]:
    """What `save_checkpoint` noted. Raises ValueError when it cannot be read."""
    path = checkpoint / STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    if not isinstance(state, dict) or not isinstance(state.get("files"), dict):
        raise ValueError(f"{path}: does not list the files of its checkpoint")
    return state


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, None for a sound one: its files must be there, as large as they were written."""
    try:
        files = read_state(checkpoint)["files"]
    except ValueError as error:
        return str(error)
    for name, size in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes instead of {size:,}"
    return None


def find_checkpoint(run_dir: Path, wanted: str) -> tuple[int, Path] | None:
    """(step, directory) to go on from: `wanted` is "no", "auto" (the newest valid one) or a step.

    None means to start anew. What "auto" passes over is told on stderr. Raises ValueError for a step that is not there
    or damaged, when all are damaged, and for a new start into a run that has checkpoints, which would overwrite them.
    """
    found = checkpoints_of(run_dir)
    if wanted == "no":
        if found:
            raise ValueError(
                f"{run_dir} already has checkpoints (newest: step {max(found)}); "
                "give --resume to go on, or another --output"
            )
        return None
    if wanted == "auto":
        return newest_valid(run_dir, found)
    if int(wanted) not in found:
        steps = ", ".join(map(str, found)) or "none"
        raise ValueError(f"{run_dir}: no checkpoint of step {wanted}; there are: {steps}")
    checkpoint = found[int(wanted)]
    if reason := damage(checkpoint):
        raise ValueError(f"{checkpoint} is damaged: {reason}; choose another step or --resume auto")
    return int(wanted), checkpoint


def newest_valid(run_dir: Path, found: Mapping[int, Path]) -> tuple[int, Path] | None:
    """(step, directory) of the newest sound checkpoint of `found`, None if there is none at all."""
    for path in sorted((run_dir / "checkpoints").glob(f"*{PARTIAL}")):
        tell(f"skipped {path}: its save was not finished")
    for step, checkpoint in sorted(found.items(), reverse=True):
        reason = damage(checkpoint)
        if reason is None:
            return step, checkpoint
        tell(f"skipped {checkpoint}: {reason}")
    if found:
        raise ValueError(f"{run_dir}: all {len(found)} checkpoints are damaged; give another --output to start anew")
    return None


def library_versions() -> dict[str, str]:
    """The installed version of each of LIBRARIES."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def has_other_layout(checkpoint: Path, recipe: TrainingRecipe) -> bool:
    """Whether a checkpoint lies in other files than this run's: other ranks, ZeRO stage, precision or engine."""
    return read_state(checkpoint)["layout"] != layout_of(recipe)


def restore(engine: Engine, checkpoint: Path) -> None:
    """Give an engine the state of a checkpoint.

    With the same layout the run goes on bit for bit. With another one the model must have had the checkpoint's weights
    (`load_weights`) before the engine; sums are then taken in another order, and dropout draws other numbers.
    """
    before = read_state(checkpoint)["layout"]
    if before == engine.layout:
        engine.load(checkpoint)
        return
    changes = [f"{name} {before[name]} -> {now}" for name, now in engine.layout.items() if before[name] != now]
    tell(f"{checkpoint}: {', '.join(changes)}; losses go on as before up to rounding, and only without dropout")
    engine.load_other_layout(checkpoint)


@dataclasses.dataclass(frozen=True)
class GivenUp:
    """What a new checkpoint replaces: those of `steps`, which came after update `start` before the run went back."""

    start: int = 0
    steps: tuple[int, ...] = ()


def given_up_by(checkpoint: Path) -> GivenUp:
    """What a sound checkpoint notes that it replaces; what a damaged one would replace is still needed."""
    path = checkpoint / GIVES_UP_FILE
    if not path.is_file() or damage(checkpoint):
        return GivenUp()
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        return GivenUp(start=noted["start"], steps=tuple(noted["steps"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected start and steps ({one_line(error)}); move it elsewhere") from None


class Ahead:
    """The checkpoints behind the update that a run goes on from, as one that was told to go back has.

    They stay until a new checkpoint is whole. Then they go, all of them: with their successors among them nobody could
    tell two courses of the run apart. The new one notes them, so that they are no checkpoints any more the moment that
    it has its name, also where a kill leaves them there.
    """

    def __init__(self, run_dir: Path, start: int) -> None:
        self.start = start
        self.steps = [step for step in checkpoints_of(run_dir) if step > start]

    def __str__(self) -> str:
        return f"checkpoint{'s' * (len(self.steps) > 1)} {', '.join(map(str, self.steps))}"

    def note(self, checkpoint: Path) -> list[Path]:
        """Note them in a checkpoint that is being written; the files that were made."""
        if not self.steps:
            return []
        path = checkpoint / GIVES_UP_FILE
        noted = GivenUp(start=self.start, steps=tuple(self.steps))
        path.write_text(json.dumps(dataclasses.asdict(noted)), encoding="utf-8")
        return [path]


def give_up_noted(run_dir: Path) -> None:
    """Delete what checkpoints note that they replace, and say so; lines of metrics take their places before."""
    found = complete_checkpoints(run_dir)
    for step, checkpoint in found.items():
        given_up = given_up_by(checkpoint)
        if not given_up.steps:
            continue
        settle_lines(run_dir, given_up.start)
        for number in given_up.steps:
            if number in found and number != step:
                tell(f"deleted {found[number]}: update {step} came anew after update {given_up.start}")
                remove(found[number])
        # Last: the steps of this list may be made anew from now on.
        (checkpoint / GIVES_UP_FILE).unlink()


def clean_up(engine: Engine, run_dir: Path) -> None:
    """Delete what kills have left of checkpoints that were being written or deleted, and of metrics without one."""
    if engine.rank == 0:
        give_up_noted(run_dir)
        (run_dir / HELD_FILE).unlink(missing_ok=True)
        for ending in (PARTIAL, DELETED):
            for path in (run_dir / "checkpoints").glob(f"step-*{ending}"):
                shutil.rmtree(path)
    engine.barrier()


def save_checkpoint(
    engine: Engine,
    run_dir: Path,
    step: int,
    recipe: TrainingRecipe,
    state: Mapping[str, Any],
    add_files: Callable[[Path], None],
    keep: Callable[[Collection[int]], Collection[int]] = lambda steps: (),
    background: Background | None = None,
    ahead: Ahead | None = None,
    announce: Callable[[Mapping[int, Path]], None] = lambda kept: None,
) -> None:
    """Write checkpoint `step` and delete old ones; every rank calls it.

    With `background` this returns when all ranks have written their parts, and the checkpoint gets its name later: the
    disk, which takes longest, is waited for beside training. Call `background.wait()` at the end.

    All ranks write into `step-N.partial`; when all are done, rank 0 renames it. `add_files` is called with that
    directory on every rank. `keep` is given the steps of all checkpoints and says which to keep beside those of the
    recipe; `announce` is given those that are kept, before others are deleted. What lies `ahead` goes when this
    checkpoint is whole, which is then waited for in any case. Many nodes need a file system that they share. Raises
    OSError on every rank when one of them cannot write; the checkpoints before are left alone then.
    """
    if ahead is not None and ahead.steps:
        background = None
    final = run_dir / "checkpoints" / f"step-{step:08d}"
    partial = final.with_name(final.name + PARTIAL)

    def begin() -> None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)

    def finish() -> None:
        save_recipe(recipe, partial / RECIPE_FILE)
        paths = sorted(partial.rglob("*"))
        files = {str(path.relative_to(partial)): path.stat().st_size for path in paths if path.is_file()}
        noted = {**state, "step": step, "layout": engine.layout, "versions": library_versions(), "files": files}
        (partial / STATE_FILE).write_text(json.dumps(noted, indent=1), encoding="utf-8")
        notes = [] if ahead is None else ahead.note(partial)
        for path in (*paths, *notes, partial / STATE_FILE):
            sync_directory(path) if path.is_dir() else sync_file(path)
        sync_directory(partial)
        if final.exists():
            remove(final)
        os.replace(partial, final)
        sync_directory(final.parent)
        give_up_noted(run_dir)
        prune(run_dir, recipe, keep, announce)

    if background is not None:
        background.wait()
    together(engine, begin if engine.rank == 0 else lambda: None)
    together(engine, lambda: engine.save(partial))
    together(engine, lambda: add_files(partial))
    if background is None:
        together(engine, finish if engine.rank == 0 else lambda: None)
    elif engine.rank == 0:
        background.start(finish)
    if ahead is not None:
        ahead.steps = []


def together(engine: Engine, work: Callable[[], None]) -> None:
    """Do a part of a save on every rank; returns when all have done theirs.

    Raises OSError on every rank when one of them does: a rank that went on alone would wait for the others for ever.
    """
    own: OSError | RuntimeError | None = None
    try:
        work()
    except (OSError, RuntimeError) as error:
        own = error
    failed = torch.zeros(engine.world_size, dtype=torch.int64, device=engine.device)
    failed[engine.rank] = own is not None
    ranks = engine.sum_over_ranks(failed).nonzero().flatten().tolist()
    if own is not None:
        raise OSError(f"the checkpoint could not be written: {one_line(own)}") from own
    if ranks:
        raise OSError(f"the checkpoint could not be written by ranks {ranks}")


def prune(
    run_dir: Path,
    recipe: TrainingRecipe,
    keep: Callable[[Collection[int]], Collection[int]],
    announce: Callable[[Mapping[int, Path]], None],
) -> None:
    """Delete all checkpoints but the newest `keep_checkpoints`, those whose step `keep_every` divides, and `keep`'s.

    Of the older ones only those count that were saved in their turn. What an interruption left goes with the next save:
    a run that was interrupted keeps the same checkpoints as one that was not.
    """
    found = checkpoints_of(run_dir)
    *older, newest = sorted(found)
    regular = [step for step in older if was_in_turn(found[step], step)]
    kept = {newest, *regular[max(0, len(regular) + 1 - recipe.keep_checkpoints) :], *keep(found)}
    if recipe.keep_every:
        kept |= {step for step in older if step % recipe.keep_every == 0}
    announce({step: path for step, path in found.items() if step in kept})
    for step in older:
        if step not in kept:
            remove(found[step])


def was_in_turn(checkpoint: Path, step: int) -> bool:
    """Whether a checkpoint was saved as one of every so many, by the recipe that the run had then."""
    try:
        return step % read_yaml(checkpoint / RECIPE_FILE)["save_every"] == 0
    except (ValueError, KeyError):
        return True  # a damaged one is nothing to end a run for, nor to delete before its time


def load_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Give `model` the weights of a checkpoint, one tensor after another."""
    weights = checkpoint_weights(checkpoint)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in weights:
                raise ValueError(f"{checkpoint}: holds no weight {name}")
            parameter.copy_(weights[name].read())


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint; renamed first, so that a kill half-way leaves none that looks complete."""
    doomed = checkpoint.with_name(checkpoint.name + DELETED)
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(checkpoint, doomed)
    shutil.rmtree(doomed)
