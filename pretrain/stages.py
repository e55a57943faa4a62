"""The stages of a run: updates, one after the other, for which some fields of the recipe have other values.

A stage is a mapping: `steps`, its updates, and fields with the values that they have from its beginning to its end. Of
numbers, `{from: 0.3, to: 0.15}` changes linearly over the stage, and with `over: 1000` over its first 1,000 updates:
the first of them has `from`, the last one `to`, as have those that follow. What decides which samples come changes in
parts instead, inside of which it is constant: `alpha` in 16, the pairs of a batch in multiples of what divides both.
`add_languages` names languages of the data that are trained from this stage on, and in none before it.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import yaml

from data_tools.files.yaml_files import StrictLoader, is_null
from training.recipe.parsing import convert

EVERYTHING, CROSS_ATTENTION, EMBEDDINGS, BODY, ADAPTERS = TRAINS = (
    *("everything", "cross_attention", "embeddings", "body", "adapters"),
)  # what a stage may train: see `pretrain.models.trained_parameters`
STEPS, ADD_LANGUAGES = "steps", "add_languages"  # the keys of a stage that are no field's new value
LINEAR_FIELDS = (
    *("mono_mask_rate", "bilingual_mask_rate", "bilingual_mask_spread"),
    *("mask_token_share", "random_token_share", "span_length"),
)
BATCH_FIELDS = ("mono_batch_pairs", "bilingual_batch_pairs")
STEPPED_FIELDS = ("alpha", *BATCH_FIELDS)
RATE_FIELDS = ("learning_rate", "warmup_steps", "schedule")
STAGE_FIELDS = (
    *("trains", "languages", "pairs", "objective", "mono_max_length", "bilingual_max_length"),
    *(*RATE_FIELDS, *STEPPED_FIELDS, *LINEAR_FIELDS),
)
PARTS_OF_ALPHA = 16
MOST_PARTS = 64  # of a change: each takes milliseconds at the start of a run

RecipeT = TypeVar("RecipeT")


@dataclass(frozen=True)
class Change:
    """A field's way from one value to another, over the first `over` updates of a stage: the last of them has `end`."""

    start: float
    end: float
    over: int
    parts: int  # in which it is constant, of equal length; 0 = it changes with each update

    def at(self, made: int) -> float:
        """The value of a stage's update number `made`, from 0. Whole numbers stay whole where the parts divide them."""
        made = min(made, self.over - 1)
        part, last = (made * self.parts // self.over, self.parts - 1) if self.parts else (made, self.over - 1)
        if part == last:
            return self.end  # as it was given, without rounding
        if isinstance(self.start, int) and isinstance(self.end, int):
            return self.start + (self.end - self.start) // last * part
        return self.start + (self.end - self.start) * part / last

    def borders(self) -> list[int]:
        """The updates of the stage, from 0, with which another part begins."""
        return [-(-part * self.over // self.parts) for part in range(1, self.parts)]


@dataclass(frozen=True)
class Stage:
    """Updates `begin` to `end` of a run, with the values that fields have in it; `number` counts from 1."""

    number: int
    begin: int
    end: int
    values: Mapping[str, Any]

    def change(self, name: str) -> Change:
        """The way of a field that changes inside the stage."""
        value = self.values[name]
        over = value.get("over", self.end - self.begin)
        parts = min(PARTS_OF_ALPHA, over) if name == "alpha" else 0
        if name in BATCH_FIELDS:
            parts = abs(value["to"] - value["from"]) // math.gcd(value["from"], value["to"]) + 1
        return Change(value["from"], value["to"], over, parts)

    def changing(self) -> dict[str, Change]:
        """The fields that change inside the stage."""
        return {name: self.change(name) for name, value in self.values.items() if isinstance(value, dict)}

    def values_at(self, step: int) -> dict[str, Any]:
        """The values of the stage's fields in update `step` of the run."""
        changing = {name: change.at(step - self.begin) for name, change in self.changing().items()}
        return {name: value for name, value in self.values.items() if name != ADD_LANGUAGES} | changing

    def borders(self) -> set[int]:
        """The updates of the run from which on samples may be drawn otherwise than before: its first, and parts'."""
        inside = (change.borders() for change in self.changing().values())
        return {self.begin, *(self.begin + border for borders in inside for border in borders)}


def stages_in_turn(stages: Sequence[Mapping[str, Any]]) -> list[Stage]:
    """Stages as a recipe has them, each beginning where the one before ends."""
    found: list[Stage] = []
    begin = 0
    for number, stage in enumerate(stages, start=1):
        values = {name: value for name, value in stage.items() if name != STEPS}
        found.append(Stage(number, begin, begin := begin + stage[STEPS], values))
    return found


def stage_of(stages: Sequence[Stage], step: int) -> Stage:
    """The stage of update `step`, from 0; beyond the end the last one."""
    return next((stage for stage in stages if step < stage.end), stages[-1])


def read_stages(kinds: Mapping[str, Any], value: Any) -> tuple[dict[str, Any], ...]:
    """Stages from a list of YAML, or its text, with values as they are saved again; `kinds` are the fields' types.

    Raises ValueError with every problem that shows without the recipe.
    """
    if isinstance(value, str) and not is_null(value):
        try:
            value = yaml.load(value, StrictLoader)
        except yaml.YAMLError as error:
            raise ValueError(f"not valid YAML: {' '.join(str(error).split())}") from None
    if is_null(value):
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(stage, dict) for stage in value):
        raise ValueError(f"expected a list such as [{{steps: 100}}, {{steps: 50, alpha: 0.3}}], found {value!r}")
    problems: list[str] = []
    stages = []
    for number, stage in enumerate(value, start=1):
        read: dict[str, Any] = {}
        for name, given in stage.items():
            try:
                read[name] = read_value(kinds, str(name), given)
            except ValueError as error:
                problems.append(f"stage {number}: {error}")
        if STEPS not in stage:
            problems.append(f"stage {number}: steps is not set: the number of its updates")
        elif read.get(STEPS, 1) < 1:
            problems.append(f"stage {number}: steps {read[STEPS]} must be at least 1")
        if ADD_LANGUAGES in stage and "languages" in stage:
            problems.append(f"stage {number}: languages names all of them: leave add_languages out")
        stages.append(read)
    if problems := [*problems, *(problems_of_changes(stages) if not problems else [])]:
        raise ValueError("; ".join(problems))
    return tuple(stages)


def read_value(kinds: Mapping[str, Any], name: str, value: Any) -> Any:
    """The value that a key of a stage has. Raises ValueError for a key that it cannot have, and for a wrong value."""
    keys = (STEPS, ADD_LANGUAGES, *STAGE_FIELDS)
    if name not in keys:
        close = difflib.get_close_matches(name, keys, n=1)
        if name in kinds:
            raise ValueError(f"{name} is the same in the whole run; a stage may set {', '.join(keys)}")
        raise ValueError(f"unknown field {name!r}" + (f", did you mean {close[0]!r}?" if close else ""))
    try:
        if isinstance(value, dict):
            return read_change(kinds, name, value)
        kind = tuple[str, ...] if name == ADD_LANGUAGES else kinds[name]
        found = convert(kind, value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return list(found) if isinstance(found, tuple) else found


def read_change(kinds: Mapping[str, Any], name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """`{from: …, to: …}`, perhaps with `over`."""
    if name not in (*LINEAR_FIELDS, *STEPPED_FIELDS):
        able = ", ".join((*LINEAR_FIELDS, *STEPPED_FIELDS))
        raise ValueError(f"cannot change inside a stage; these can: {able}")
    if not {"from", "to"} <= value.keys() <= {"from", "to", "over"}:
        raise ValueError(f"expected {{from: 0.3, to: 0.15}}, perhaps with over: its updates, found {value}")
    ends = {end: convert(kinds[name], value[end]) for end in ("from", "to")}
    return ends | ({"over": convert(int, value["over"])} if "over" in value else {})


def problems_of_changes(stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence for each field that cannot change as its stage says."""
    found = []
    for stage in stages_in_turn(stages):
        for name, value in stage.values.items():
            if not isinstance(value, dict):
                continue
            where, length = f"stage {stage.number}: {name}", stage.end - stage.begin
            over = value.get("over", length)
            if value["from"] == value["to"]:
                found.append(f"{where} does not change from {value['from']} to {value['to']}: give one value")
            elif not 2 <= over <= length:
                found.append(f"{where} cannot change over {over} of {length} updates: from 2 to all of them")
            elif name in BATCH_FIELDS and min(value["from"], value["to"]) >= 1:
                parts, most = stage.change(name).parts, min(over, MOST_PARTS)
                if parts > most:
                    found.append(
                        f"{where} cannot change from {value['from']} to {value['to']}: in steps of their greatest "
                        f"common divisor it has {parts} values, and over {over} updates at most {most} are possible"
                    )
    return found


def with_languages_of(
    stages: Sequence[Mapping[str, Any]], languages: Collection[str], of_recipe: Sequence[str] | None
) -> tuple[dict[str, Any], ...]:
    """Stages with all their languages in place of those that they add; `of_recipe` are the recipe's own.

    A language that some stage adds is in none before it, and in all after it that do not name theirs.
    """
    added = [name for stage in stages for name in stage.get(ADD_LANGUAGES, ())]
    if not added:
        return tuple(dict(stage) for stage in stages)
    now = [name for name in (languages if of_recipe is None else of_recipe) if name not in added]
    found = []
    for stage in stages:
        now += [name for name in stage.get(ADD_LANGUAGES, ()) if name not in now]
        kept = {name: value for name, value in stage.items() if name != ADD_LANGUAGES}
        found.append({"languages": sorted(now)} | kept)
    return tuple(found)


def problems_of_languages(
    stages: Sequence[Mapping[str, Any]], of_recipe: Mapping[str, Any], known: Mapping[str, Collection[str]]
) -> list[str]:
    """One sentence for each list with a language or pair that the data do not have.

    `of_recipe` are the recipe's own fields; `known` has the "languages" and the "pairs" of the data.
    """
    found = []
    lists = [("", "languages", of_recipe["languages"]), ("", "pairs", of_recipe["pairs"])]
    for number, stage in enumerate(stages, start=1):
        lists += [(f"stage {number}: ", name, stage.get(name)) for name in ("languages", ADD_LANGUAGES, "pairs")]
    for where, name, listed in lists:
        there = known["pairs" if name == "pairs" else "languages"]
        if missing := [item for item in listed or () if item not in there]:
            has = ", ".join(sorted(there)) or "none"
            found.append(f"{where}{name}: the data have no {', '.join(missing)}; there are: {has}")
    return found


def past_difference(before: Sequence[Stage], now: Sequence[Stage], step: int) -> str:
    """The first stage that began before update `step` and is not what it was, in words; empty where there is none.

    Of a run that now ends before that update, only its own updates are compared.
    """
    step = min(step, now[-1].end)
    for old, new in zip(before, now, strict=False):
        if old.begin >= step:
            break
        if min(old.end, step) != min(new.end, step) or effects(old) != effects(new):
            return (
                f"stage {old.number} was {told(old)}, is {told(new)}: it began before update {step}, so that only its "
                "end and what follows can be different; give another --output to train otherwise from the start"
            )
    return ""


def difference_of_parameters(before: Sequence[str], now: Sequence[str]) -> str:
    """In words, that objectives ask for other parameters of their own than before; empty where they do not.

    A checkpoint has those of all stages, with their moments.
    """
    # Importing torch takes seconds: --help should not wait for it.
    from veco.objectives.objective_sum import ObjectiveSum

    old, new = (ObjectiveSum.union(objectives).with_parameters for objectives in (before, now))
    if old == new:
        return ""
    had, has = (", ".join(sorted(names)) or "none" for names in (old, new))
    return (
        f"objectives with parameters of their own were {had}, are {has}: a run has the same from the start, so that "
        "every checkpoint has their weights; give another --output"
    )


def effects(stage: Stage) -> dict[str, Any]:
    """What a stage sets, the same however it is written."""
    return dict(stage.values) | stage.changing()


def told(stage: Stage) -> str:
    """A stage as a recipe has it."""
    return str({STEPS: stage.end - stage.begin, **stage.values})


def at(recipe: RecipeT, values: Mapping[str, Any]) -> RecipeT:
    """A recipe of one update, with the values that its fields have there, and without stages."""
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return dataclasses.replace(recipe, **{"stages": ()} | dict(values) | lists)  # type: ignore[type-var]
