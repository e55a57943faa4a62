"""The tasks that come with the project: a directory of task files for each benchmark.

catalogues/NAME/catalogue.yaml lists the tasks of a benchmark in the order of its tables; the others are task files. A
benchmark that shares a task with another lists it by its place there, such as xtreme/xnli.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data_tools.files.yaml_files import read_mapping, read_marked_mapping
from finetune.understanding.tasks.section import Section
from finetune.understanding.tasks.task import Task
from finetune.understanding.tasks.task_file import EXPECTED, read_task

CATALOGUES = Path(__file__).resolve().parents[1] / "catalogues"
CATALOGUE_FILE = "catalogue.yaml"
XTREME = "xtreme"  # whose tasks also have their bare names
SUFFIXES = (".yaml", ".yml")
KEYS = ("title", "tasks", "has_overall", "source")


@dataclass(frozen=True)
class Catalogue:
    """A benchmark: its tasks by name, in the order of its tables.

    `has_overall`: the benchmark has an overall score, the mean of its tasks' scores.
    """

    name: str
    title: str
    tasks: Mapping[str, Task]
    has_overall: bool
    source: str

    @property
    def languages(self) -> list[str]:
        """The languages of all tests, each once."""
        return list(dict.fromkeys(language for task in self.tasks.values() for language in task.languages))


def catalogue_names() -> list[str]:
    """The names of all catalogues, XTREME first."""
    names = sorted(path.parent.name for path in CATALOGUES.glob(f"*/{CATALOGUE_FILE}"))
    return sorted(names, key=lambda name: name != XTREME)


@cache
def catalogue_named(name: str) -> Catalogue:
    """A catalogue with all its tasks; raises ValueError that lists all names."""
    if name not in catalogue_names():
        raise ValueError(f"unknown benchmark {name!r}; expected one of {', '.join(catalogue_names())}")
    path = CATALOGUES / name / CATALOGUE_FILE
    problems: list[str] = []
    section = Section(read_marked_mapping(path, "a catalogue").content, (), lambda _: str(path), problems)
    section.check_keys(KEYS)
    tasks = {place.rpartition("/")[2]: _task_at(place, path.parent) for place in section.texts("tasks")}
    catalogue = Catalogue(
        name, section.text("title"), tasks, section.flag("has_overall", False), section.text("source", "")
    )
    if problems:
        raise ValueError("; ".join(problems))
    return catalogue


def _task_at(place: str, directory: Path) -> Task:
    """The task of a file of the directory, or, for a place such as xtreme/xnli, of another catalogue."""
    return task_named(place) if "/" in place else read_task(directory / f"{place}.yaml")


def task_names() -> list[str]:
    """The names of all tasks that come with the project, such as xtreme/xnli; a shared one has several."""
    return [f"{name}/{task}" for name in catalogue_names() for task in catalogue_named(name).tasks]


def task_named(name: str) -> Task:
    """A task by the name of its file, such as mine.yaml, or its place in a catalogue, such as xtreme/xnli.

    A bare name is XTREME's. Raises ValueError for an unknown name, and for mistakes in a file.
    """
    path = Path(name)
    if path.suffix in SUFFIXES:
        return read_task(path)
    catalogue, _, task = name.rpartition("/")
    if catalogue in ("", *catalogue_names()) and task in (found := catalogue_named(catalogue or XTREME).tasks):
        return found[task]
    raise ValueError(f"unknown task {name!r}; {_advice(catalogue, task)}")


def task_file_content(name: str) -> Any:
    """What the file of a task says, for a record of settings, since it may be edited; None for a task of the project.

    That is the file rather than the task, which may get further fields in later versions.
    """
    if Path(name).suffix not in SUFFIXES:
        return None
    return json.loads(json.dumps(read_mapping(Path(name), EXPECTED), default=str))


def _advice(catalogue: str, task: str) -> str:
    """The names that may have been meant."""
    if catalogue in catalogue_names():
        return f"{catalogue_named(catalogue).title} has {', '.join(catalogue_named(catalogue).tasks)}"
    if elsewhere := [full for full in task_names() if full.rpartition("/")[2] == task]:
        return f"expected {' or '.join(elsewhere)}"
    xtreme = catalogue_named(XTREME)
    others = ", ".join(name for name in catalogue_names() if name != XTREME)
    return (
        f"{xtreme.title} has {', '.join(xtreme.tasks)}; expected one of them, a task file such as mine.yaml, or a task "
        f"of another benchmark, as BENCHMARK/TASK{f' ({others})' if others else ''}"
    )
