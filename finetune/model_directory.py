"""The model directory that a command uses when it is given a model, a checkpoint or a run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from finetune.selection import Selection
from training.checkpoints.finding import checkpoints_of
from training.launch import tell
from training.run_directory.kinds import (
    LAST,
    MODEL_DIR,
    Kind,
    export_first,
    is_checkpoint,
    is_model,
    is_run,
    kind_of,
    own_model,
    what_is,
)

SCRIPTS = {
    Kind.PRETRAINING: "pretrain/train.py",
    Kind.TRANSLATION: "finetune/mt/train.py",
    Kind.TASK: "finetune/understanding/train.py",
}


def model_directory(path: Path, kinds: Collection[Kind], of_pretraining: Callable[[Path], str] | None = None) -> Path:
    """The directory of a model: `path` itself, the model of a checkpoint, or that of a run's best checkpoint.

    A directory used in place of `path` is reported. `of_pretraining` is passed on to `check_kind`. Raises ValueError
    for a run of none of `kinds`, a run without a model, and anything else, and says what was found.
    """
    if is_model(path):
        return replaced(path, path.resolve()) if path.is_symlink() else path  # training moves RUN/best
    if is_run(path) or is_checkpoint(path):
        kind = check_kind(path, kinds, of_pretraining)
        return replaced(path, checkpoint_model(path)) if is_checkpoint(path) else run_model(path, kind)
    if is_model(path / MODEL_DIR):  # a finished run of a hyperparameter search, which keeps nothing else
        return replaced(path, path / MODEL_DIR)
    raise ValueError(f"{path}: expected a model, a checkpoint or a run, found {what_is(path)}")


def replaced(path: Path, model: Path) -> Path:
    """Report that `model` is used in place of `path`, and return it."""
    tell(f"{path}: using {model}")
    return model


def check_kind(path: Path, kinds: Collection[Kind], of_pretraining: Callable[[Path], str] | None = None) -> Kind:
    """The kind of a run, or of a checkpoint's run. Raises ValueError when it is none of `kinds`.

    `of_pretraining` gives the advice for a pre-training run where none is accepted; by default, to fine-tune it first.
    """
    kind = kind_of(path)
    if kind not in (*kinds, Kind.UNKNOWN):
        scripts = [SCRIPTS[one] for one in kinds]
        advice = ""
        if kind is Kind.PRETRAINING:
            advice = f": {of_pretraining(path) if of_pretraining else fine_tune_first(path, scripts)}"
        raise ValueError(f"{path}: expected what {' or '.join(scripts)} made, found {what_is(path)}{advice}")
    return kind


def fine_tune_first(path: Path, scripts: Collection[str]) -> str:
    """Advice to fine-tune a pre-training run, or a checkpoint of one, with one of `scripts`."""
    model = own_model(path)
    exported = "" if model else f"; MODEL is made by python -m pretrain.export {path} --output MODEL"
    return f"fine-tune it first ({' or '.join(scripts)} --init_from {model or 'MODEL'}{exported})"


def checkpoint_model(checkpoint: Path) -> Path:
    """The model directory of a checkpoint. Raises ValueError when it has none."""
    if not is_model(checkpoint / MODEL_DIR):
        advice = f": {export_first(checkpoint)}" if kind_of(checkpoint) is Kind.PRETRAINING else ""
        raise ValueError(f"{checkpoint}: has no model; it is {what_is(checkpoint)}{advice}")
    return checkpoint / MODEL_DIR


def run_model(run: Path, kind: Kind) -> Path:
    """The model of a run's best checkpoint, or of its newest if nothing was validated; the choice is reported."""
    if kind is Kind.PRETRAINING:
        if not is_model(run / LAST):
            raise ValueError(f"{run}: its last model was not written; it is {what_is(run)}: {export_first(run)}")
        tell(f"{run}: using its last model, {(run / LAST).resolve()}")
        return (run / LAST).resolve()
    found = checkpoints_of(run)
    if not found:
        raise ValueError(f"{run}: has no complete checkpoint")
    newest = found[max(found)]
    selection = Selection.read(newest)
    best = selection.best_of(found, 1)
    if not best:
        tell(f"{run}: using the model after update {max(found)}, its newest; no validation shows the best")
        return checkpoint_model(newest)
    value = selection.validations[best[0]][selection.best_by]
    tell(f"{run}: using the model after update {best[0]}, {selection.goal} {selection.best_by} ({value:.4f})")
    return checkpoint_model(found[best[0]])
