"""Checkpoints of a run: each a directory that appears whole, by one rename, or not at all."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from data_tools.cli import one_line
from data_tools.files.atomic import sync_directory, sync_file
from training.checkpoints.deleting import give_up_noted, prune, remove
from training.checkpoints.finding import GIVES_UP_FILE, PARTIAL, RECIPE_FILE, STATE_FILE, GivenUp, checkpoints_of
from training.engine.interface import Engine
from training.recipe.base import TrainingRecipe
from training.recipe.parsing import save_recipe

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


def library_versions() -> dict[str, str]:
    """The installed version of each of LIBRARIES."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


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
