"""Checkpoints of a run: each a directory that appears whole, by one rename, or not at all.

    RUN/checkpoints/step-N.partial/         a checkpoint that is being written; renamed to step-N when complete
    RUN/checkpoints/step-N/state.json       update, state of the run, layout, versions, and the sizes of the other files
    RUN/checkpoints/step-N/recipe.yaml      the resolved recipe
    RUN/checkpoints/step-N/plain_engine.pt  weights and Adam's moments; DeepSpeed: *_model_states.pt, *_optim_states.pt
    RUN/checkpoints/step-N/config.json      the model's shape, in pre-training
    RUN/checkpoints/step-N/momentum.safetensors  the momentum encoders and queues of objectives that have some
    RUN/checkpoints/step-N/model/           the model as transformers opens it, in fine-tuning
    RUN/checkpoints/step-N/gives_up.json    the checkpoints that this one supersedes, until they are deleted

RUN/checkpoints/step-N counts as a checkpoint only with state.json in it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from data_tools.cli import one_line
from data_tools.files.atomic import sync_directory, sync_file
from training.checkpoints.deleting import delete_superseded, prune, remove
from training.checkpoints.finding import (
    GIVES_UP_FILE,
    PARTIAL,
    RECIPE_FILE,
    STATE_FILE,
    Superseded,
    checkpoint_path,
    checkpoints_of,
)
from training.engine.interface import Engine
from training.recipe.base import TrainingRecipe
from training.recipe.parsing import save_recipe

# Libraries whose versions a checkpoint notes.
LIBRARIES = ("torch", "deepspeed", "transformers", "veco")


class Background:
    """Work of rank 0 while training continues: syncing a checkpoint that is written, and renaming it into place.

    Inside `with` it may be started; it is over behind it, also after an error: a whole checkpoint is worth more than a
    quick end.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.seconds = 0.0  # that the last work took
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, work: Callable[[], None]) -> None:
        """Start `work`; what was started before must be over."""

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
        """`join` on every rank; raises OSError on all of them where it raises on one."""
        together(self.engine, self.join)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.wait()
        else:
            self.join()  # alone: the other ranks may not be there any more


def library_versions() -> dict[str, str]:
    """The installed version of each of LIBRARIES."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


class LaterCheckpoints:
    """The checkpoints after the update that a run resumes from, where it went back: the next one saved supersedes them.

    They stay until a new checkpoint is complete. Then all of them are deleted: mixed with their successors, nobody
    could tell the two histories of the run apart. The new one lists them, so that they no longer count as checkpoints
    from the moment that it is renamed into place, even where a kill leaves them there.
    """

    def __init__(self, run_dir: Path, start: int) -> None:
        self.start = start
        self.steps = [step for step in checkpoints_of(run_dir) if step > start]

    def __str__(self) -> str:
        return f"checkpoint{'s' * (len(self.steps) > 1)} {', '.join(map(str, self.steps))}"

    def note(self, checkpoint: Path) -> list[Path]:
        """List them in a checkpoint that is being written. Returns the files that were made."""
        if not self.steps:
            return []
        path = checkpoint / GIVES_UP_FILE
        noted = Superseded(start=self.start, steps=tuple(self.steps))
        path.write_text(json.dumps(dataclasses.asdict(noted)), encoding="utf-8")
        return [path]


def no_files(directory: Path) -> None:
    """Add nothing to a checkpoint."""


def keep_none(steps: Collection[int]) -> Collection[int]:
    """Those of the checkpoints at `steps` to keep beside those of the recipe: none."""
    return ()


def announce_nothing(kept: Mapping[int, Path]) -> None:
    """Take no note of the checkpoints that are kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """The contents of a checkpoint beside the state of its engine.

    `state` is noted in STATE_FILE; `add_files` is called on every rank with the directory of the checkpoint.
    """

    recipe: TrainingRecipe
    state: Mapping[str, Any]
    add_files: Callable[[Path], None] = no_files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retention:
    """The fate of a run's other checkpoints once a new one is whole.

    `keep` is given the steps of all checkpoints and returns those to keep beside those of the recipe; `announce` is
    given those that are kept, before others are deleted. Those that are `later` are deleted.
    """

    keep: Callable[[Collection[int]], Collection[int]] = keep_none
    announce: Callable[[Mapping[int, Path]], None] = announce_nothing
    later: LaterCheckpoints | None = None


def save_checkpoint(
    engine: Engine,
    run_dir: Path,
    step: int,
    contents: Contents,
    *,
    retention: Retention = Retention(),
    background: Background | None = None,
) -> None:
    """Write checkpoint `step` and delete old ones; every rank calls it.

    All ranks write into `step-N.partial`; when all are done, rank 0 syncs and renames it. With `background` this
    returns when all ranks have written their parts, and the slowest part, the disk, is waited for while training
    continues: call `background.wait()` at the end. Where checkpoints are superseded, the rename is waited for in any
    case. Many nodes need a file system that they share. Raises OSError on every rank when one of them cannot write;
    earlier checkpoints are left alone then.
    """
    later = retention.later
    if later is not None and later.steps:
        background = None
    complete = checkpoint_path(run_dir, step)
    partial = complete.with_name(complete.name + PARTIAL)

    def begin() -> None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)

    notes = {**contents.state, "step": step, "layout": engine.layout, "versions": library_versions()}
    finish = functools.partial(rename_into_place, run_dir, partial, notes, contents.recipe, retention)
    if background is not None:
        background.wait()
    together(engine, begin if engine.rank == 0 else lambda: None)
    together(engine, lambda: engine.save(partial))
    together(engine, lambda: contents.add_files(partial))
    if background is None:
        together(engine, finish if engine.rank == 0 else lambda: None)
    elif engine.rank == 0:
        background.start(finish)
    if later is not None:
        later.steps = []


def rename_into_place(
    run_dir: Path, partial: Path, notes: Mapping[str, Any], recipe: TrainingRecipe, retention: Retention
) -> None:
    """Complete a checkpoint whose parts are written, sync and rename it, and delete those that it replaces."""
    final = partial.with_name(partial.name.removesuffix(PARTIAL))
    save_recipe(recipe, partial / RECIPE_FILE)
    paths = sorted(partial.rglob("*"))
    files = {str(path.relative_to(partial)): path.stat().st_size for path in paths if path.is_file()}
    (partial / STATE_FILE).write_text(json.dumps({**notes, "files": files}, indent=1), encoding="utf-8")
    superseded = [] if retention.later is None else retention.later.note(partial)
    for path in (*paths, *superseded, partial / STATE_FILE):
        sync_directory(path) if path.is_dir() else sync_file(path)
    sync_directory(partial)
    if final.exists():
        remove(final)
    os.replace(partial, final)
    sync_directory(final.parent)
    delete_superseded(run_dir)
    prune(run_dir, recipe, retention.keep, retention.announce)


def together(engine: Engine, work: Callable[[], None]) -> None:
    """Do a part of a save on every rank; return when all have done theirs.

    Raises OSError on every rank when one of them does: a rank that continued alone would wait for the others for ever.
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
