"""The plan of a study: its steps in the order in which they depend on one another, and their settings."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from finetune.command_stages import command_line
from finetune.steps import Step
from finetune.study.cells import Column, cell_steps, columns_of
from finetune.study.checking.checks import check_steps
from finetune.study.configuration import Study
from finetune.study.places import Places
from finetune.study.preparation import preparation_steps, written_files
from finetune.study.probes import probe_steps
from finetune.understanding.comparison.stages import settings_of
from finetune.understanding.tasks.catalogues import SUFFIXES

BEFORE = "steps before it"
OUTPUT = "OUTPUT"  # in recorded settings, in place of the directory of the study, which may be moved


@dataclass(frozen=True)
class StudyPlan:
    """All steps of a study, none before those that it needs; the columns of its table; the files that it writes."""

    study: Study
    places: Places
    steps: Sequence[Step]
    columns: Sequence[Column]
    files: Mapping[Path, str]

    def settings(self) -> dict[str, dict[str, Any]]:
        """Name of each step -> what it does, and a digest of what the steps that it needs do."""
        runs = {run.name: (run, column) for column in self.columns for run in column.plan.runs}
        found: dict[str, dict[str, Any]] = {}
        for step in self.steps:
            if step.name in runs:
                run, column = runs[step.name]
                own = settings_of(run, column.plan.comparison, column.plan.tested(run))
            else:
                words = [word for stage in step.stages for word in stage.command]
                read = {path.name: self.files[path] for path in self.files if str(path) in words}
                own = {"commands": [list(stage.command) for stage in step.stages], **read}
            moved = json.loads(json.dumps(own).replace(json.dumps(str(self.places.output))[1:-1], OUTPUT))
            found[step.name] = {**moved, BEFORE: {name: digest(found[name]) for name in step.needs}}
            found[step.name] |= self.given_files(step)
        return found

    def given_files(self, step: Step) -> dict[str, str]:
        """The YAML files of the user that a step's commands name, such as a probe's task: they may be edited."""
        words = {word for stage in step.stages for word in stage.command if word.endswith(SUFFIXES)}
        given = sorted(word for word in words if not Path(word).is_relative_to(self.places.output))
        return {word: Path(word).read_text("utf-8", "replace") for word in given if os.path.isfile(word)}

    def script(self) -> str:
        """The commands of all steps as a shell script, with the files that they read."""
        lines = []
        for path, text in self.files.items():
            lines += [
                f"mkdir -p {quote(str(path.parent))}",
                f"cat > {quote(str(path))} <<'END'",
                text.rstrip("\n"),
                "END",
                "",
            ]
        for step in self.steps:
            needs = f", after {', '.join(step.needs)}" if step.needs else ""
            lines.append(f"# {step.name}{needs}{' (done)' if step.is_done else ''}")
            lines += [command_line(stage, self.study.processes) for stage in step.stages]
            lines.append("")
        return "\n".join(lines)


def digest(settings: Mapping[str, Any]) -> str:
    """A short digest of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def plan_of(study: Study, output: Path) -> StudyPlan:
    """The plan of a study below `output`. Raises ValueError with all that is certain to fail."""
    places = Places(study, output.absolute())
    files = written_files(study, places)
    prepared = preparation_steps(study, places)
    check_steps(study, places, [*prepared, *probe_steps(study, places)], files)
    columns = columns_of(study, places)
    steps = [*prepared, *cell_steps(columns, study), *probe_steps(study, places)]
    check_directories(steps, places.output)
    steps = sorted_by_needs(steps)
    return StudyPlan(study, places, steps, columns, files)


def check_directories(steps: Sequence[Step], output: Path) -> None:
    """Raise ValueError where two steps would write one directory, which is named after parts of the study.

    So do a task `pos` with a model `fi-en`, and a task `pos-fi` with a model `en`.
    """
    times = Counter(step.directory for step in steps)
    if twice := [directory for directory, number in times.items() if number > 1]:
        raise ValueError(
            f"two steps would write {twice[0].relative_to(output)}: their names, joined by -, are the same; rename a "
            "task, a probe or a model"
        )


def sorted_by_needs(steps: Sequence[Step]) -> list[Step]:
    """The steps in their order, but none before those that it needs."""
    found: dict[str, Step] = {}
    waiting = list(steps)
    while waiting:
        ready = next((step for step in waiting if found.keys() >= set(step.needs)), None)
        assert ready is not None, "circles of models are refused when the file is read"
        waiting.remove(ready)
        found[ready.name] = ready
    return list(found.values())
