"""Checkpoints of a run: each a directory that appears whole, by one rename, or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from pretrain.engine import Engine
from pretrain.recipe import TrainingRecipe, save_recipe

STATE_FILE = "state.json"


def checkpoints_of(run_dir: Path) -> dict[int, Path]:
    """Step -> directory of every complete checkpoint of a run, oldest first."""
    found = {}
    for path in (run_dir / "checkpoints").glob("step-*"):
        if (match := re.fullmatch(r"step-(\d+)", path.name)) and (path / STATE_FILE).is_file():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def find_checkpoint(run_dir: Path, wanted: str) -> tuple[int, Path] | None:
    """(step, directory) to go on from: `wanted` is "no", "auto" (the newest) or a step.

    None means to start anew. Raises ValueError for a step that is not there, and for a new start into a run that has
    checkpoints, which would overwrite them.
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
        return max(found.items(), default=None)
    if int(wanted) not in found:
        steps = ", ".join(map(str, found)) or "none"
        raise ValueError(f"{run_dir}: no checkpoint of step {wanted}; there are: {steps}")
    return int(wanted), found[int(wanted)]


def save_checkpoint(
    engine: Engine, run_dir: Path, step: int, recipe: TrainingRecipe, state: dict[str, Any], extra: Any = None
) -> None:
    """Write checkpoint `step` and delete all but the newest `recipe.keep_checkpoints`; every rank calls it.

    All ranks write into `step-N.partial`; when all are done, rank 0 renames it. `extra`, if given, is called with that
    directory on every rank and may add files. Many nodes need a file system that they share.
    """
    final = run_dir / "checkpoints" / f"step-{step:08d}"
    partial = final.with_name(final.name + ".partial")
    if engine.rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    engine.barrier()
    engine.save(partial, {"step": step})
    if extra is not None:
        extra(partial)
    engine.barrier()
    if engine.rank == 0:
        save_recipe(recipe, partial / "recipe.yaml")
        (partial / STATE_FILE).write_text(json.dumps({**state, "step": step}, indent=1), encoding="utf-8")
        sync_tree(partial)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        for old in list(checkpoints_of(run_dir).values())[: -recipe.keep_checkpoints]:
            shutil.rmtree(old)
    engine.barrier()


def read_state(checkpoint_dir: Path) -> dict[str, Any]:
    """What `save_checkpoint` noted about the run: step, data fingerprint, world size."""
    return json.loads((checkpoint_dir / STATE_FILE).read_text(encoding="utf-8"))


def sync_tree(directory: Path) -> None:
    """Flush every file below a directory to disk, so that a rename never outlives its content."""
    for path in directory.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
