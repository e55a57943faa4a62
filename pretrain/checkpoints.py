"""Checkpoints of a run: each a directory that appears whole, by one rename, or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_tools.files import sync_directory, sync_file
from pretrain.engine import Engine, consolidated_weights
from pretrain.launch import launched_ranks
from pretrain.recipe import TrainingRecipe, read_yaml, save_recipe
from veco.heads import VecoWithLMHead

STATE_FILE = "state.json"
RECIPE_FILE = "recipe.yaml"
# Fields that a resumed run may change: where things are, how they are shown and kept, and how long it goes on.
FREE_FIELDS = frozenset(
    [
        "output",
        "resume",
        "data",
        "init_from",
        "steps",
        "log_every",
        "save_every",
        "keep_checkpoints",
        "loader_workers",
        "cpu_processes",
    ]
)


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


def check_same_run(checkpoint: Path, recipe: TrainingRecipe, state: Mapping[str, Any]) -> None:
    """Raise ValueError when a checkpoint was made with other data, ranks or recipe than the run that would go on.

    `state` is what `save_checkpoint` would note now. Fields of the recipe outside FREE_FIELDS must be equal.
    """
    before = json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
    problems = [f"{name} was {before[name]}, is {state[name]}" for name in state if before[name] != state[name]]
    old, new = read_yaml(checkpoint / RECIPE_FILE), dataclasses.asdict(recipe)
    problems += [
        f"{name} was {old.get(name)}, is {value}"
        for name, value in new.items()
        if name not in FREE_FIELDS and old.get(name) != value
    ]
    if problems:
        raise ValueError(f"{checkpoint} cannot be resumed: {'; '.join(problems)}")


def run_state(data_fingerprint: str) -> dict[str, Any]:
    """What must be the same when a run goes on, beside its recipe."""
    return {"data_fingerprint": data_fingerprint, "world_size": launched_ranks()}


def drop_checkpoints_after(engine: Engine, run_dir: Path, step: int) -> None:
    """Delete checkpoints beyond `step`, from which a run goes on: they belong to what is given up."""
    if engine.rank == 0:
        for number, path in checkpoints_of(run_dir).items():
            if number > step:
                remove(path)
    engine.barrier()


def save_checkpoint(
    engine: Engine,
    run_dir: Path,
    step: int,
    recipe: TrainingRecipe,
    state: Mapping[str, Any],
    add_files: Callable[[Path], None],
) -> None:
    """Write checkpoint `step` and delete all but the newest `recipe.keep_checkpoints`; every rank calls it.

    All ranks write into `step-N.partial`; when all are done, rank 0 renames it. `add_files` is called with that
    directory on every rank. Many nodes need a file system that they share.
    """
    final = run_dir / "checkpoints" / f"step-{step:08d}"
    partial = final.with_name(final.name + ".partial")
    if engine.rank == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    engine.barrier()
    engine.save(partial)
    add_files(partial)
    engine.barrier()
    if engine.rank == 0:
        save_recipe(recipe, partial / RECIPE_FILE)
        (partial / STATE_FILE).write_text(json.dumps({**state, "step": step}, indent=1), encoding="utf-8")
        for path in partial.rglob("*"):
            sync_directory(path) if path.is_dir() else sync_file(path)
        sync_directory(partial)
        if final.exists():
            remove(final)
        os.replace(partial, final)
        sync_directory(final.parent)
        for old in list(checkpoints_of(run_dir).values())[: -recipe.keep_checkpoints]:
            remove(old)
    engine.barrier()


def load_weights(model: VecoWithLMHead, checkpoint: Path) -> None:
    """Give `model` the float32 weights of a checkpoint."""
    weights = consolidated_weights(checkpoint)
    # Tied: the projection may or may not stand among the consolidated weights.
    weights["lm_head.decoder.weight"] = weights["veco.embeddings.word_embeddings.weight"]
    model.load_state_dict(weights)


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint; renamed first, so that a kill half-way leaves none that looks complete."""
    doomed = checkpoint.with_name(checkpoint.name + ".deleted")
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(checkpoint, doomed)
    shutil.rmtree(doomed)
