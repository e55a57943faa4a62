"""The checkpoints of a run: which there are, whether they are sound, which one to resume from."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_tools.cli import one_line
from training.launch import tell

STATE_FILE = "state.json"
RECIPE_FILE = "recipe.yaml"
GIVES_UP_FILE = "gives_up.json"  # in a checkpoint: which others it supersedes, until they are deleted
PARTIAL, DELETED = ".partial", ".deleted"  # endings of directories that a kill may leave behind


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """The directory of a run's checkpoint after `step` updates, once it is complete."""
    return run_dir / "checkpoints" / f"step-{step:08d}"


def checkpoints_of(run_dir: Path) -> dict[int, Path]:
    """Step -> directory of every complete checkpoint of a run, oldest first, without superseded ones."""
    found = complete_checkpoints(run_dir)
    gone = {number for step, path in found.items() for number in superseded_by(path).steps if number != step}
    return {step: path for step, path in found.items() if step not in gone}


def complete_checkpoints(run_dir: Path) -> dict[int, Path]:
    """The same as `checkpoints_of`, and superseded ones that are still there."""
    found = {}
    for path in (run_dir / "checkpoints").glob("step-*"):
        if (match := re.fullmatch(r"step-(\d+)", path.name)) and (path / STATE_FILE).is_file():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The notes of `save_checkpoint`. Raises ValueError when they cannot be read."""
    path = checkpoint / STATE_FILE
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    if not isinstance(state, dict) or not isinstance(state.get("files"), dict):
        raise ValueError(f"{path}: does not list the files of its checkpoint")
    return state


def damage(checkpoint: Path) -> str | None:
    """The damage to a checkpoint, None for a sound one: its files must be there, as large as they were written."""
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
    """(step, directory) to resume from: `wanted` is "no", "auto" (the newest valid one) or a step.

    None means to start from scratch. Checkpoints that "auto" skips are reported on stderr. Raises ValueError for a step
    that is not there or damaged, when all are damaged, and for a new start into a run that has checkpoints, which would
    overwrite them.
    """
    found = checkpoints_of(run_dir)
    if wanted == "no":
        if found:
            raise ValueError(
                f"{run_dir} already has checkpoints (newest: step {max(found)}); "
                "give --resume to continue, or another --output"
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
        raise ValueError(f"{run_dir}: all {len(found)} checkpoints are damaged; give another --output to start again")
    return None


@dataclasses.dataclass(frozen=True)
class Superseded:
    """The checkpoints that a new one supersedes: those of `steps`, later than `start`, which the run went back to."""

    start: int = 0
    steps: tuple[int, ...] = ()


def superseded_by(checkpoint: Path) -> Superseded:
    """The checkpoints that a sound one lists as superseded; those of a damaged one are still needed."""
    path = checkpoint / GIVES_UP_FILE
    if not path.is_file() or damage(checkpoint):
        return Superseded()
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        return Superseded(start=noted["start"], steps=tuple(noted["steps"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: the list of checkpoints that this one supersedes; expected start and steps ({one_line(error)}); "
            "move it elsewhere"
        ) from None
