"""The runs of a comparison: models, seeds and, for individual training, languages of each group, with their recipes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from finetune.understanding.comparison.configuration import PLUG_IN, TRANSLATE_TEST, Comparison, Group
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.settings import WITH_TRANSLATIONS, Setting
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named
from finetune.understanding.tasks.task import Head, Task
from training.recipe.parsing import build_recipe, laid_over, read_yaml

PLACES = ("output", "init_from", "data", "translated_train")  # ignored in shipped recipes
RECIPES = Path(__file__).resolve().parents[1] / "recipes"
TRANSLATED = "translated"  # the directory of translated tests, below the output


@dataclass(frozen=True)
class TranslatedTests:
    """The place of tests translated into the source language: the root, and the task as its files have it."""

    root: str
    task: str


@dataclass(frozen=True)
class Run:
    """One run of the comparison.

    `recipe` is None for retrieval, which has no training. `seed` is None where nothing is random: retrieval with the
    weights of `init_from`. `language` is the one of an individual training, and empty otherwise.
    """

    group: Group
    model: str
    seed: int | None
    init_from: str
    output: Path
    recipe: UnderstandingRecipe | None = None
    language: str = ""
    translated: TranslatedTests | None = None

    @property
    def name(self) -> str:
        return self.output.name

    @property
    def trained(self) -> Path:
        """The directory of the training, which runs on tests and on their translations share."""
        return self.output if self.recipe is None else Path(self.recipe.output)


def recipe_file(task: Task, setting: str) -> Path:
    """The shipped recipe of a task of XTREME, or the general one for its head."""
    if catalogue_named(XTREME).tasks.get(task.name) == task:
        ending = "_translate_train_all" if setting in WITH_TRANSLATIONS else ""
        return RECIPES / f"{task.name}{ending}.yaml"
    return RECIPES / ("general_answers.yaml" if task.head is Head.SPAN else "general.yaml")


def recipe_values(group: Group, comparison: Comparison) -> dict[str, Any]:
    """The values that the recipes of a group's runs share, as `build_recipe` takes them."""
    setting = Setting.TRANSFER if group.setting == TRANSLATE_TEST else Setting(group.setting)
    shipped = read_yaml(recipe_file(group.definition, setting))
    own = {
        **comparison.fields,
        **comparison.task_fields.get(group.task, {}),
        "data": comparison.data_of(group.task),
        "task": group.task,
        "setting": setting.value,
        "plug_in": group.mode == PLUG_IN,
    }
    return laid_over(UnderstandingRecipe, {name: value for name, value in shipped.items() if name not in PLACES}, own)


def runs_of(
    groups: Sequence[Group],
    comparison: Comparison,
    output: Path,
    individual: Mapping[Group, Sequence[str]] = MappingProxyType({}),
) -> list[Run]:
    """All runs, seed by seed, so that a stopped comparison has results of all models.

    `individual` has the languages of the groups in which each language has a model of its own. Raises ValueError with
    all problems of all recipes.
    """
    runs: dict[str, Run] = {}
    problems: dict[str, None] = {}
    for seed in comparison.seeds:
        for group in groups:
            for model in comparison.models:
                for language in individual.get(group, [""]):
                    try:
                        run = run_of(group, model, seed, comparison, output, language)
                    except ValueError as error:
                        problems[str(error)] = None
                    else:
                        runs.setdefault(run.name, run)  # retrieval without a seed is done once
    if problems:
        raise ValueError("; ".join(problems))
    return list(runs.values())


def run_of(group: Group, model: str, seed: int, comparison: Comparison, output: Path, language: str = "") -> Run:
    """One run, with its resolved recipe if it is trained. Raises ValueError with all problems of the recipe."""
    fields = comparison.models[model]
    has_training = not group.definition.is_retrieval
    is_drawn = has_training or fields.get("init") == "random"
    ending = [model, *([f"seed{seed}"] if is_drawn else []), *([language] if language else [])]
    directory = output / "runs" / "-".join([*group.words, *ending])
    run = Run(group, model, seed if is_drawn else None, str(fields["init_from"]), directory, language=language)
    if not has_training:
        return run
    values = {**recipe_values(group, comparison), **fields, "seed": seed, "resume": "auto"}
    values |= {"languages": language} if language else {}
    if group.setting != TRANSLATE_TEST:
        recipe = build_recipe(UnderstandingRecipe, {**values, "output": str(directory)}, Path(f"of {group}"))
        return dataclasses.replace(run, recipe=recipe)
    trained = dataclasses.replace(group, setting=Setting.TRANSFER.value)
    shared = output / "runs" / "-".join([*trained.words, *ending])
    recipe = build_recipe(UnderstandingRecipe, {**values, "output": str(shared)}, Path(f"of {group}"))
    return dataclasses.replace(run, recipe=recipe, translated=translated_tests(group, recipe, output))


def translated_tests(group: Group, recipe: UnderstandingRecipe, output: Path) -> TranslatedTests:
    """The given tests in the source language, or those that the comparison has translated."""
    if recipe.translated_test:
        return TranslatedTests(recipe.translated_test, group.task)
    name = group.definition.name
    root = output / TRANSLATED / name
    return TranslatedTests(str(root), str(root / f"{name}.yaml"))
