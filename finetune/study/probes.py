"""The probes of a study: commands that look into its models, and the numbers that these find."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from finetune.command_stages import Stage
from finetune.steps import Step
from finetune.study.configuration import ProbePart, Study
from finetune.study.places import Places
from finetune.study.preparation import model_needs, words_of


def probe_steps(study: Study, places: Places) -> list[Step]:
    """A step for each probe and model."""
    return [
        probe_step(name, model, study, places)
        for name, probe in study.probes.items()
        for model in probed_models(probe, study)
    ]


def probed_models(probe: ProbePart, study: Study) -> list[str]:
    """The models that a probe looks into, by default those of the table; the control has no weights of its own."""
    return list(probe.models) or [name for name in study.rows if name in study.models]


def probe_step(name: str, model: str, study: Study, places: Places) -> Step:
    """Look into a model."""
    probe = study.probes[name]
    title, made = f"probe {name} {model}", probe_directory(name, model, places)
    command = (probe.command, f"{places.model(model)}", *words_of(probe.flags), "--output", f"{made}")
    last = [*probe.results.values(), *probe.by_layer.values()][-1].file
    settle = partial(check_probe, name, model, study, places)
    return Step(title, made.parent, (Stage(title, command, made / last),), model_needs(model, study), settle)


def probe_results(name: str, model: str, study: Study, places: Places) -> dict[str, float]:
    """{name of a number: the number} of a probe, without those that are not there."""
    found = {}
    for number, (file, keys) in study.probes[name].results.items():
        value = value_in(probe_directory(name, model, places) / file, keys)
        if is_number(value):
            found[number] = float(value)
    return found


def probe_results_by_layer(name: str, model: str, study: Study, places: Places) -> dict[str, dict[int, float]]:
    """{name of a number: {layer: the number}} of a probe, without those that are not there."""
    found = {}
    for number, (file, keys) in study.probes[name].by_layer.items():
        value = value_in(probe_directory(name, model, places) / file, keys)
        if is_by_layer(value):
            found[number] = {int(layer): float(own) for layer, own in value.items()}
    return found


def check_probe(name: str, model: str, study: Study, places: Places) -> None:
    """Raise ValueError for the first number that the files of a finished probe lack."""
    probe, directory = study.probes[name], probe_directory(name, model, places)
    for key, fields, is_right, expected in (
        ("results", probe.results, is_number, "a number"),
        ("by_layer", probe.by_layer, is_by_layer, "numbers by layer"),
    ):
        for number, (file, keys) in fields.items():
            value = value_in(directory / file, keys)
            if not is_right(value):
                found = f"the keys {', '.join(map(str, value))}" if isinstance(value, Mapping) else repr(value)
                raise ValueError(
                    f"probe {name} {model}: {number} is to be {expected} at {'.'.join(keys)} of {directory / file}, "
                    f"found {found}; change {key} in {study.path}"
                )


def probe_directory(name: str, model: str, places: Places) -> Path:
    """The directory that the command of a probe writes."""
    return places.output / "probes" / f"{name}-{model}" / "results"


def value_in(path: Path, keys: Sequence[str]) -> Any:
    """The value behind these keys in a JSON file, None where the file or one of them is missing."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_by_layer(value: Any) -> bool:
    """Whether a value of JSON maps layers to numbers."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(str(layer).isdecimal() and is_number(own) for layer, own in value.items())
    )
