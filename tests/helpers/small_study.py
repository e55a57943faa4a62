"""What the tests of studies share: how they are read, and scores written by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from finetune.command_stages import Stage
from finetune.study.configuration import Study
from finetune.study.plan import StudyPlan
from pretrain.recipe import SHAPE_FIELDS, PretrainRecipe
from training.recipe.parsing import build_recipe

StudyMaker = Callable[..., Study]  # reads a study with changes


def write_scores(plan: StudyPlan, scores: dict[str, dict[str, list[float]]]) -> None:
    """Write what finetune.understanding.evaluate would: {model: {column: a score in each language for each seed}}."""
    for column in plan.columns:
        metric = column.task.main_metrics[0]
        for run in column.plan.runs:
            values = scores.get(run.model, {}).get(column.name, [])
            place = plan.study.seeds.index(run.seed or 0)
            if place < len(values):
                one = dict.fromkeys(column.task.metrics, values[place]) | {metric: values[place]}
                content = {column.task.name: {"avg": one, **dict.fromkeys(column.plan.tested(run), one)}}
                run.output.mkdir(parents=True, exist_ok=True)
                column.plan.result(run).write_text(json.dumps(content))


def resolved_here(stage: Stage, stand_ins: Mapping[str, Path]) -> dict[str, Any]:
    """The recipe that a command of pre-training has, as `checks.resolved` finds it, without a process of its own."""
    words = [str(stand_ins.get(word, word)) for word in stage.command[1:]]
    flags = dict(re.findall(r"--(\w+)\n(.*)\n", "\n".join([*words, ""])))
    shared = yaml.safe_load(Path(flags.pop("config")).read_text())
    if "init_from" in flags:  # as the command itself does with the shape of a recipe file
        shared = {name: value for name, value in shared.items() if name not in SHAPE_FIELDS}
    return vars(build_recipe(PretrainRecipe, {**shared, **flags}, None))
