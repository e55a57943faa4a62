"""The cells of a study's table: each model fine-tuned on each task, over seeds, by the commands of understanding."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from finetune.steps import Step
from finetune.study.checking.values import place_of, values_of_cell, values_of_model
from finetune.study.configuration import CONTROL, Study
from finetune.study.places import FINETUNING, Places
from finetune.study.preparation import model_needs
from finetune.study.references import way_back
from finetune.understanding.comparison.availability import check_models, languages_chosen_on_tests, tests_of
from finetune.understanding.comparison.configuration import MODES, Comparison, Group
from finetune.understanding.comparison.plan import Plan, Result, members
from finetune.understanding.comparison.runs import Run, run_of
from finetune.understanding.metrics.scoring import AVERAGE
from finetune.understanding.readers.languages import languages_with
from finetune.understanding.readers.roots import check_root
from finetune.understanding.search import settle
from finetune.understanding.settings import Setting
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.task import Split, Task


class Kind(StrEnum):
    """What a cell shows, as the colours of Table 2 of the study of foreign fine-tuning do."""

    OWN = "own"  # pre-trained on the language of the column: the upper bound
    FOREIGN = "foreign"
    CONTROL = "control"  # random weights
    UNKNOWN = ""  # nobody says which languages the model has seen


@dataclass(frozen=True)
class Column:
    """A task in the language in which models are trained, and tested unless it says otherwise; their runs."""

    name: str
    entry: str  # of `tasks` in the file
    language: str
    plan: Plan

    @property
    def group(self) -> Group:
        """What the runs have in common."""
        return self.plan.groups[0]

    @property
    def task(self) -> Task:
        """The task."""
        return self.group.definition

    @property
    def is_on_dev(self) -> bool:
        """Whether scores on dev are shown rather than on the test."""
        return self.plan.comparison.report == Split.DEV

    @property
    def is_chosen_on_what_is_shown(self) -> bool:
        """Whether the scores that are shown also chose the best checkpoint of some model."""
        if not self.is_on_dev:
            return bool(self.plan.chosen_on_tests)
        return any(run.recipe.chooses_by_validation for run in self.plan.runs if run.recipe is not None)

    def scores(self, model: str) -> list[float]:
        """The scores of the finished runs of a model, one for each seed."""
        return [result.score(AVERAGE) for result in members(self.results, self.group, model)]

    @property
    def results(self) -> list[Result]:
        """The results of the finished runs."""
        return self.plan.results()

    def is_done(self, model: str) -> bool:
        """Whether all runs of a model are finished."""
        return all(self.plan.is_done(run) for run in self.plan.runs_of(self.group, model))


def columns_of(study: Study, places: Places) -> list[Column]:
    """The columns of the table, in the order of the file. Raises ValueError with all that their runs lack."""
    problems: dict[str, None] = {}
    columns = []
    for name, part in study.tasks.items():
        for language in part.languages:
            title = name if len(part.languages) == 1 else f"{name}-{language}"
            try:
                columns.append(column_of(title, name, language, study, places))
            except ValueError as error:
                problems |= dict.fromkeys([f"task {title}: {error}"])
    names = [column.name for column in columns]
    problems |= {f"two columns are named {name}": None for name in names if names.count(name) > 1}
    if problems:
        raise ValueError("; ".join(problems))
    return columns


def column_of(title: str, name: str, language: str, study: Study, places: Places) -> Column:
    """The column of a task in a language, with its runs.

    Raises ValueError for missing files, bad recipes, and models that are there and cannot learn the task.
    """
    comparison, part = comparison_of(name, language, study, places), study.tasks[name]
    group = Group(part.task, comparison.settings[0], MODES[0])
    tests = checked_tests(part.task, language, comparison)
    first = first_runs(group, name, language, comparison, study, places)
    check_models([run for run in first if Path(run.init_from).exists()], comparison)
    check_teachers(first)
    runs = [placed(run, seed, title, places) for seed in study.seeds for run in first]
    tested = {part.task: tests}
    chosen = languages_chosen_on_tests(runs, tested, comparison)
    return Column(title, name, language, Plan(comparison, runs, tested, {}, {}, {}, {}, chosen_on_tests=chosen))


def first_runs(
    group: Group, name: str, language: str, comparison: Comparison, study: Study, places: Places
) -> list[Run]:
    """The runs of all models with the first seed. Raises ValueError with the place of each value that is refused."""
    runs, problems = [], dict[str, None]()
    for model in study.rows:
        try:
            run = run_of(group, model, study.seeds[0], comparison, places.output, _trained(group, language))
        except ValueError as error:
            told = str(error).removeprefix(f"recipe of {group}: ")
            problems[f"{place_of(told, values_of_cell(model, name, language, study), study)}: {told}"] = None
        else:
            runs.append(run)
    if problems:
        raise ValueError("; ".join(problems))
    return runs


def checked_tests(name: str, language: str, comparison: Comparison) -> list[str]:
    """The languages of a task's tests. Raises ValueError where there is no text to train or test on, or bad files."""
    task, data = task_named(name), comparison.data_of(name)
    if not data:
        raise ValueError("data is missing: give it here, or in finetuning for all tasks")
    check_root(data, "data")
    for split in (Split.TRAIN, Split.DEV):
        if language not in languages_with(task, split, data):
            raise ValueError(f"{data}: has no {split} file of {task.name} in {language}")
    tests = tests_of(name, comparison)
    if tests.missing:
        raise ValueError(f"{data}: {tests.missing}")
    return list(tests.languages)


def _trained(group: Group, language: str) -> str:
    """The language of an individual training; a task in one language needs none."""
    return language if group.setting == Setting.INDIVIDUAL else ""


def check_teachers(runs: Sequence[Run]) -> None:
    """Raise ValueError where models would learn from one another."""
    teachers = {run.model: [run.recipe.teacher] for run in runs if run.recipe and run.recipe.teacher != run.model}
    for name in teachers:
        if way := way_back(name, teachers):
            raise ValueError(f"teacher: models learn from one another: {' from '.join(way)}")


def placed(run: Run, seed: int, column: str, places: Places) -> Run:
    """A run with another seed, in the directory of its cell, by whose name it goes.

    A teacher that is a model of the table is its run in the same column with the same seed; its own run has none.
    """
    assert run.recipe is not None, "tasks of a study have a training"

    def cell(model: str) -> Path:
        return places.output / FINETUNING / f"{column}-{model}-seed{seed}"

    output, recipe = cell(run.model), run.recipe
    if recipe.teacher == run.model:
        recipe = dataclasses.replace(recipe, teacher="", teacher_states=0.0, teacher_every_layer=False)
    elif recipe.teacher in places.study.rows:
        recipe = dataclasses.replace(recipe, teacher=str(cell(recipe.teacher)))
    recipe = dataclasses.replace(recipe, output=str(output), seed=seed)
    return dataclasses.replace(run, output=output, recipe=recipe, seed=seed, language="")


def comparison_of(name: str, language: str, study: Study, places: Places) -> Comparison:
    """The runs of a task in a language as finetune.understanding.compare would do them."""
    part = study.tasks[name]
    fields = {name: value for name, value in study.finetuning.items() if name != "data"}
    data = part.data or str(study.finetuning.get("data", ""))
    # Individual training validates in its language alone, as only one with several languages need be told.
    setting = Setting.TRANSFER if len(task_named(part.task).languages) == 1 else Setting.INDIVIDUAL
    return Comparison(
        data=data,
        models={model: model_fields(model, name, language, study, places) for model in study.rows},
        seeds=list(study.seeds),
        tasks=[part.task],
        settings=[setting.value],
        fields=fields,
        task_fields={part.task: dict(part.fields)},
        languages={part.task: list(part.tests or (language,))},
        report=part.report,
        significance={"draws": study.draws, **({"baseline": study.baseline} if study.baseline else {})},
    )


def model_fields(model: str, task: str, language: str, study: Study, places: Places) -> dict[str, Any]:
    """What the runs of a model on a task begin from, and the fields of their recipes."""
    fields: dict[str, Any] = {}
    for section in reversed(values_of_model(model, task, language, study)):
        fields |= section.values
    if model == CONTROL:
        return {**fields, "init_from": f"{places.model(study.control_start(language))}", "init": "random"}
    return {**fields, "init_from": f"{places.model(model)}"}


def kind_of(model: str, column: Column, study: Study) -> Kind:
    """What the cell of a model shows in a column."""
    if model == CONTROL or study.models[model].fields.get("init") == "random":
        return Kind.CONTROL
    languages = study.languages_of(model)
    if column.language in languages:
        return Kind.OWN
    return Kind.FOREIGN if languages and study.has_all_languages(model) else Kind.UNKNOWN


def cell_steps(columns: Sequence[Column], study: Study) -> list[Step]:
    """A step for each run, seed by seed, so that a study that is stopped has results for all models and tasks."""
    steps = []
    for number in range(len(study.seeds) * len(study.rows)):
        for column in columns:
            run = column.plan.runs[number]
            start = study.control_start(column.language) if run.model == CONTROL else run.model
            stages, needs = tuple(column.plan.stages(run)), (*model_needs(start, study), *teacher_needs(run))
            steps.append(Step(run.name, run.output, stages, needs, partial(settle, run.trained)))
    return steps


def teacher_needs(run: Run) -> tuple[str, ...]:
    """The run of the study that a run learns from, if it does."""
    teacher = Path(run.recipe.teacher if run.recipe else "")
    return (teacher.name,) if teacher.parent == run.output.parent else ()
