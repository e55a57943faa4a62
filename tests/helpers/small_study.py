"""What the tests of studies share: how they are read, and scores written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable

from finetune.study.configuration import Study
from finetune.study.plan import StudyPlan

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
