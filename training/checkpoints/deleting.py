"""Deletion of checkpoints: of older ones, and of those superseded since the run went back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from training.checkpoints.finding import (
    DELETED,
    GIVES_UP_FILE,
    PARTIAL,
    RECIPE_FILE,
    checkpoints_of,
    complete_checkpoints,
    superseded_by,
)
from training.engine.interface import Engine
from training.launch import tell
from training.metrics_lines import HELD_FILE, settle_lines
from training.recipe.base import TrainingRecipe
from training.recipe.parsing import read_yaml


def delete_superseded(run_dir: Path) -> None:
    """Delete superseded checkpoints, and report it; the lines of metrics are replaced first."""
    found = complete_checkpoints(run_dir)
    for step, checkpoint in found.items():
        superseded = superseded_by(checkpoint)
        if not superseded.steps:
            continue
        settle_lines(run_dir, superseded.start)
        for number in superseded.steps:
            if number in found and number != step:
                tell(
                    f"deleted {found[number]}: replaced by the new checkpoint of update {step} "
                    f"(resumed from {superseded.start})"
                )
                remove(found[number])
        # Last: the steps of this list may be saved again from now on.
        (checkpoint / GIVES_UP_FILE).unlink()


def clean_up(engine: Engine, run_dir: Path) -> None:
    """Delete the remains of checkpoints that a kill met in writing or deletion, and metrics that lack one."""
    if engine.rank == 0:
        delete_superseded(run_dir)
        (run_dir / HELD_FILE).unlink(missing_ok=True)
        for ending in (PARTIAL, DELETED):
            for path in (run_dir / "checkpoints").glob(f"step-*{ending}"):
                shutil.rmtree(path)
    engine.barrier()


def prune(
    run_dir: Path,
    recipe: TrainingRecipe,
    keep: Callable[[Collection[int]], Collection[int]],
    announce: Callable[[Mapping[int, Path]], None],
) -> None:
    """Delete all checkpoints but the newest `keep_checkpoints`, those whose step `keep_every` divides, and `keep`'s.

    Of the older ones only those count that were saved in their turn. A checkpoint of an interruption is deleted with
    the next save: a run that was interrupted keeps the same checkpoints as one that was not.
    """
    found = checkpoints_of(run_dir)
    *older, newest = sorted(found)
    regular = [step for step in older if was_in_turn(found[step], step)]
    num_regular = recipe.keep_checkpoints - 1  # the newest is one of `keep_checkpoints`, in its turn or not
    kept = {newest, *regular[max(0, len(regular) - num_regular) :], *keep(found)}
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
        return True  # a damaged one is no reason to end a run, and not deleted before its time


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint; renamed first, so that a kill half-way leaves none that looks complete."""
    doomed = checkpoint.with_name(checkpoint.name + DELETED)
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(checkpoint, doomed)
    shutil.rmtree(doomed)
