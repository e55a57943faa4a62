"""The places in a run's directory, and the kinds of things that a path may lead to: run, checkpoint, model."""

from __future__ import annotations

import contextlib
import enum
import os
import re
import socket
from pathlib import Path

from training.checkpoints.finding import RECIPE_FILE, STATE_FILE, checkpoints_of
from training.launch import tell
from training.recipe.parsing import read_yaml

MODEL_DIR = "model"  # of a checkpoint: what transformers opens
ADAPTER_DIR = "adapter"  # of a checkpoint: what was trained beside a model, apart from it
BEST, LAST = "best", "last"  # of a run: links to models of its checkpoints
OWN_TARGET = re.compile(rf"(checkpoints/step-\d+/)?{MODEL_DIR}")  # of these links
CONFIG_FILE = "config.json"


class Kind(enum.Enum):
    """The purpose of a run, in words."""

    PRETRAINING = "pre-training"
    TRANSLATION = "fine-tuning for translation"
    TASK = "fine-tuning for a task of XTREME"
    UNKNOWN = "another kind"


# Fields that the recipes of one kind alone have.
FIELD_OF_KIND = {"objective": Kind.PRETRAINING, "directions": Kind.TRANSLATION, "task": Kind.TASK}


def is_run(path: Path) -> bool:
    """Whether a path is the directory of a run that has begun to save."""
    return (path / "checkpoints").is_dir()


def is_checkpoint(path: Path) -> bool:
    """Whether a path is a checkpoint, of which there may also be copies elsewhere."""
    return (path / STATE_FILE).is_file() and (path / RECIPE_FILE).is_file()


def is_model(path: Path) -> bool:
    """Whether a path is a directory that transformers opens. A checkpoint of pre-training has a configuration alone."""
    return (path / CONFIG_FILE).is_file() and not is_checkpoint(path)


def kind_of(path: Path) -> Kind:
    """The purpose of a run, or of the run of a checkpoint."""
    if not is_checkpoint(path):
        found = checkpoints_of(path)
        if not found:
            return Kind.UNKNOWN
        path = found[max(found)]
    with contextlib.suppress(ValueError):
        fields = read_yaml(path / RECIPE_FILE)
        return next((kind for field, kind in FIELD_OF_KIND.items() if field in fields), Kind.UNKNOWN)
    return Kind.UNKNOWN


def what_is(path: Path) -> str:
    """The kind of thing that a path leads to, in words for a message."""
    if not path.exists():
        return "nothing (no such file or directory)"
    if is_model(path):
        return "a model"
    if not is_run(path) and not is_checkpoint(path):
        return "no run, checkpoint or model" if path.is_dir() else "a file"
    return f"a {'checkpoint' if is_checkpoint(path) else 'run'} of {kind_of(path).value}"


def export_first(path: Path) -> str:
    """Advice on how to make the model of a run or a checkpoint of pre-training."""
    return f"export it first (python -m pretrain.export {path} --output MODEL)"


def own_model(path: Path) -> Path | None:
    """The model that a checkpoint holds, or to which a run's link leads, if there is one."""
    names = [MODEL_DIR] if is_checkpoint(path) else [BEST, LAST] if is_run(path) else []
    return next((path / name for name in names if is_model(path / name)), None)


def no_model(path: Path) -> str:
    """A description of a path that is no model, for a message, with the model that was meant or how to make it."""
    if model := own_model(path):
        return f"{what_is(path)}: give its model, {model}"
    if (is_run(path) or is_checkpoint(path)) and kind_of(path) is Kind.PRETRAINING:
        return f"{what_is(path)}: {export_first(path)}"
    return what_is(path)


def link_model(link: Path, model: Path | None) -> None:
    """Make `link`, in a run's directory, lead to a model of the run, or remove it where there is no such model.

    Anything there that is no such link is left unchanged. Where the file system has no links, this is reported.
    """
    is_there = os.path.lexists(link)
    if is_there and not (link.is_symlink() and OWN_TARGET.fullmatch(os.readlink(link))):
        tell(f"{link} was not created by this run; left unchanged")
        return
    if model is None or not is_model(model):
        link.unlink(missing_ok=True)
        return
    temporary = link.with_name(f".{link.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(model, link.parent))
        os.replace(temporary, link)
    except OSError as error:
        tell(f"{link} cannot be made ({error.strerror}); the model is {model}")
