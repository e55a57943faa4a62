"""Resuming a run: what must be as before, what may change, and what of the checkpoint is discarded."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from training.checkpoints.finding import RECIPE_FILE, read_state
from training.checkpoints.restoring import has_other_layout, load_weights, restore
from training.checkpoints.saving import LaterCheckpoints, library_versions
from training.engine.interface import Engine
from training.launch import tell
from training.recipe.base import TrainingRecipe
from training.recipe.option import BY_NAME, FIXED, UNREAD, may_change, notes_of
from training.recipe.parsing import decided_fields, read_yaml

RecipeT = TypeVar("RecipeT", bound=TrainingRecipe)
# Values for `dataclasses.replace`: a recipe whose changes are made must not ask for them again.
CHANGES_MADE: dict[str, Any] = {"change": "", "reset_optimizer": False, "reset_schedule": False}


@dataclasses.dataclass(frozen=True)
class Start:
    """The start of a run: at update `step`, from a checkpoint or from scratch.

    The learning rate's schedule begins at update `schedule_start`. `history` holds what changed at which update,
    earliest first; both go into every checkpoint. With `takes_only_weights` Adam begins again.
    """

    step: int = 0
    checkpoint: Path | None = None
    schedule_start: int = 0
    history: tuple[Mapping[str, Any], ...] = ()
    takes_only_weights: bool = False

    def state(self) -> dict[str, Any]:
        """The values that a checkpoint must hold for `begin`."""
        return {"schedule_start": self.schedule_start, "history": list(self.history)}

    def settled(self, recipe: RecipeT) -> RecipeT:
        """The recipe as the run's checkpoints keep it, with its changes made.

        Fields that are not read on resume, and those that they decide, are as the run began.
        """
        if self.checkpoint is None:
            return dataclasses.replace(recipe, **CHANGES_MADE)
        before = recipe_of(self.checkpoint, type(recipe))
        unread = [name for name in before if notes_of(type(recipe), name)["on_resume"] is UNREAD]
        names = {decided for name in unread if before[name] for decided in notes_of(type(recipe), name)["decides"]}
        return dataclasses.replace(recipe, **CHANGES_MADE, **{name: before[name] for name in names.union(unread)})

    def prepare(self, model: nn.Module, recipe: TrainingRecipe) -> None:
        """Give a model the checkpoint's weights before it has an engine, where the engine will not load them."""
        if self.checkpoint is not None and (self.takes_only_weights or has_other_layout(self.checkpoint, recipe)):
            load_weights(model, self.checkpoint)

    def restore(self, engine: Engine) -> None:
        """Give an engine the checkpoint's state; `prepare` came before."""
        if self.checkpoint is not None and not self.takes_only_weights:
            restore(engine, self.checkpoint)


def begin(found: tuple[int, Path] | None, recipe: TrainingRecipe, facts: Mapping[str, Any]) -> Start:
    """The start that a recipe asks for; `found` is the checkpoint to resume from, if any, and its step.

    Raises ValueError as `changes` does, and for changes without a checkpoint. What changes is reported on stderr.
    """
    resets = [name for name in ("optimizer", "schedule") if vars(recipe)[f"reset_{name}"]]
    if found is None:
        if given := [*["change"] * bool(recipe.change), *(f"reset_{name}" for name in resets)]:
            flags = ", ".join(f"--{name}" for name in given)
            raise ValueError(
                f"{flags} need{'s' * (len(given) == 1)} a checkpoint to resume from, "
                f"and {recipe.output} has none: name the run's directory as --output, or leave this out to begin one"
            )
        return Start()
    step, checkpoint = found
    changed = changes(checkpoint, recipe, facts)
    state = read_state(checkpoint)
    if idle := [name for name in recipe.names_to_change() if name not in changed]:
        tell(f"change {', '.join(idle)}: same value as in {checkpoint}; no effect")
    history = tuple(state.get("history", ()))  # checkpoints that are older than it had no changes
    if changed or resets:
        history += ({"step": step, "changed": changed, "reset": resets},)
        values = [f"{name} {before} -> {now}" for name, (before, now) in changed.items()]
        tell(f"from update {step} on: {', '.join([*values, *(f'{name} starts again' for name in resets)])}")
    return Start(
        step=step,
        checkpoint=checkpoint,
        schedule_start=step if "schedule" in resets else state.get("schedule_start", 0),
        history=history,
        takes_only_weights="optimizer" in resets,
    )


def nothing_to_train(start: int, end: int, later: LaterCheckpoints) -> str:
    """A line about a run that begins at its end."""
    stays = f"; {later} stay{'s' * (len(later.steps) == 1)}" if later.steps else ""
    return f"nothing to train: the checkpoint is that of update {start}, and the recipe has {end} updates{stays}"


def recipe_of(checkpoint: Path, kind: type[TrainingRecipe]) -> dict[str, Any]:
    """The fields of the recipe that a checkpoint was made with.

    One that is younger than the checkpoint had its default's effect then.
    """
    fields = dataclasses.asdict(kind())
    saved = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in read_yaml(checkpoint / RECIPE_FILE).items()
    }
    return fields | {name: value for name, value in saved.items() if name in fields}


def changes(checkpoint: Path, recipe: TrainingRecipe, facts: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Name -> (before, now) of what `recipe.change` names and is different from when a checkpoint was made.

    `facts` are compared beside the recipe, as `save_checkpoint` got them, mappings key by key; a checkpoint that is
    older than a fact does not note it. Raises ValueError when anything else is different that is not free to be. What
    another field decides, then or now, is not compared: a model's shape is the checkpoint's. Other versions of the
    libraries are reported on stderr.
    """
    kind = type(recipe)
    state = read_state(checkpoint)
    before, values = recipe_of(checkpoint, kind), dataclasses.asdict(recipe)
    if problem := recipe.past_difference(before, int(state["step"])):
        raise ValueError(f"{checkpoint} cannot be resumed: {problem}")
    unused = decided_fields(kind, before).keys() | decided_fields(kind, values).keys()
    compared = {name: different_keys(state[name], now) for name, now in facts.items() if name in state}
    for name in values:
        if name not in unused and notes_of(kind, name)["on_resume"] in (FIXED, BY_NAME):
            compared[name] = (before[name], values[name])
    different = {name: (old, now) for name, (old, now) in compared.items() if old != now}
    if refused := {name: values for name, values in different.items() if name not in recipe.names_to_change()}:
        raise ValueError(
            f"{checkpoint} cannot be resumed: "
            + "; ".join(difference(name, old, now) for name, (old, now) in refused.items())
            + advice(refused, recipe)
        )
    for name, now in values.items():
        if notes_of(kind, name)["on_resume"] is UNREAD and now and now != before[name]:
            tell(f"{name} {now} is not read: the run resumes from {checkpoint}")
    versions = library_versions()
    changed = [f"{name} {old} -> {versions[name]}" for name, old in state["versions"].items() if versions[name] != old]
    if changed:
        tell(f"{checkpoint} was written with other versions: {', '.join(changed)}")
    return different


def different_keys(old: Any, now: Any) -> tuple[Any, Any]:
    """Two values of a fact: of mappings only the keys that differ."""
    if not (isinstance(old, Mapping) and isinstance(now, Mapping)):
        return old, now
    keys = [key for key in {**old, **now} if old.get(key) != now.get(key)]
    return {key: old.get(key) for key in keys}, {key: now.get(key) for key in keys}


def difference(name: str, old: Any, now: Any) -> str:
    """A difference in words; of mappings, with the same keys, one for each key."""
    if isinstance(old, Mapping):
        return "; ".join(f"{key} of {name} was {old[key]}, is {now[key]}" for key in old)
    return f"{name} was {old}, is {now}"


def advice(refused: Collection[str], recipe: TrainingRecipe) -> str:
    """Advice on names that are different in a resumed run, as the end of a message."""
    known = may_change(type(recipe))
    allowed, fixed = ([name for name in refused if (name in known) is wanted] for wanted in (True, False))
    never = f"; {', '.join(fixed)} cannot be different in the same run: give the value that it had, or another --output"
    if not allowed:
        return never
    named = f"--change {','.join([*recipe.names_to_change(), *allowed])}"
    return f"; if that is meant, give {named}" if not fixed else f"; {named} would allow {', '.join(allowed)}{never}"
