"""Compare pre-trained models on XTREME with equal budgets: VECO, XLM, random weights; settings, modes, seeds.

    python -m finetune.understanding.compare COMPARE.yaml --output DIR

Every run is trained, predicts and is scored by the public commands, each in a process of its own. DIR/table.md and
DIR/results.json have the averages of all models side by side, then each task by language, on its tests. Finished steps
are skipped, so the same command resumes a stopped comparison; the table is rewritten after each run, from the finished
runs. Of a finished run only the best model is kept, in DIR/runs/NAME/model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_tools.cli import run_main
from data_tools.files.atomic import write_texts
from finetune.command_stages import Stage
from finetune.comparison import (
    check_unchanged,
    do_all,
    do_stages,
    mean_and_deviation,
    parse_arguments,
)
from finetune.understanding.comparison import configuration as comparison_file
from finetune.understanding.comparison.availability import (
    available,
    check_models,
    languages_in_own_pairs,
    without_cross_attention,
)
from finetune.understanding.comparison.configuration import (
    MIN_FOR_LAYERS,
    Comparison,
    Group,
    Run,
    groups_of,
    read_comparison,
    runs_of,
    settings_of,
    stages_of,
)
from finetune.understanding.comparison.report import MISSING, score_name, table_line
from finetune.understanding.metrics.scoring import AVERAGE, task_score
from finetune.understanding.search import settle
from finetune.understanding.tasks.catalogues import task_named

COMPARISONS = Path(__file__).resolve().parent / "comparisons"


@dataclass(frozen=True)
class Plan:
    """The runs that the data and models of a comparison allow, and what is left out, with the reason."""

    comparison: Comparison
    runs: Sequence[Run]
    languages: Mapping[str, Sequence[str]]  # of each task's tests
    left_out: Mapping[str, str]
    hidden: Mapping[str, Mapping[str, str]]  # task -> language whose labels are not known -> why
    own_pairs: Mapping[str, Sequence[str]]  # group that is plugged in -> languages without translations into English
    untrained: Mapping[str, str]  # model whose cross-attention was not trained -> its pre-training

    @property
    def groups(self) -> list[Group]:
        """The groups in which models are compared, in order."""
        return list(dict.fromkeys(run.group for run in self.runs))

    def stages(self, run: Run) -> list[Stage]:
        """The commands of a run."""
        return stages_of(run, self.comparison, self.languages[run.group.task])

    def settings(self) -> dict[str, dict[str, Any]]:
        """The settings of each run, by its name."""
        return {run.name: settings_of(run, self.comparison, self.languages[run.group.task]) for run in self.runs}

    def results(self) -> list[Result]:
        """The results of the finished runs."""
        found = (read_result(run, self.stages(run)) for run in self.runs)
        return [result for result in found if result is not None]


@dataclass(frozen=True)
class Result:
    """The scores of one run."""

    name: str
    group: Group
    model: str
    seed: int | None
    scores: dict[str, dict[str, float]]  # language or "avg" -> metric -> percent
    layers: dict[str, int] = field(
        default_factory=dict
    )  # language -> the layer that finetune.understanding.layers chose

    def score(self, language: str) -> float:
        """The score of the task in a language, or its average."""
        return task_score(task_named(self.group.task), self.scores[language])


def plan(comparison: Comparison, output: Path) -> Plan:
    """The plan of a comparison. Raises ValueError, before the first run, for all that is certain to fail."""
    groups, left_out, tests = available(groups_of(comparison), comparison)
    runs = runs_of(groups, comparison, output)
    check_models(runs, comparison)
    plugged_in = {run.model: run for run in runs if run.recipe is not None and run.recipe.plug_in}
    pretrained = {name: run for name, run in plugged_in.items() if run.recipe and run.recipe.init == "pretrained"}
    untrained = {name: without_cross_attention(Path(run.init_from)) for name, run in pretrained.items()}
    compared = {group.task: tests[group.task] for group in groups}
    return Plan(
        comparison,
        runs,
        {task: own.languages for task, own in compared.items()},
        left_out,
        {task: own.hidden for task, own in compared.items() if own.hidden},
        languages_in_own_pairs(runs, {task: own.languages for task, own in compared.items()}),
        {name: objective for name, objective in untrained.items() if objective},
    )


def read_result(run: Run, stages: Sequence[Stage]) -> Result | None:
    """The result of a run, None until it is finished."""
    path = stages[-1].result
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    task, layers = task_named(run.group.task), {}
    if "chosen" in content:
        (metric,) = task.main_metrics
        layers = {language: own["layer"] for language, own in content["chosen"].items()}
        scores = {language: {metric: own["score"]} for language, own in content["chosen"].items()}
        scores[AVERAGE] = {metric: content[AVERAGE]}
    else:
        scores = content[task.name]
    return Result(run.name, run.group, run.model, run.seed, scores, layers)


def members(results: Sequence[Result], group: Group, model: str) -> list[Result]:
    """The results of a model in a group, one for each seed."""
    return [result for result in results if (result.group, result.model) == (group, model)]


def overview(results: Sequence[Result], planned: Plan) -> list[str]:
    """The lines of a table of averages over the languages: a row for each group, a column for each model."""
    models = list(planned.comparison.models)
    lines = [table_line(["average over the languages", "score", *models]), table_line(["---"] * (len(models) + 2))]
    for group in planned.groups:
        averages = [[one.score(AVERAGE) for one in members(results, group, model)] for model in models]
        cells = [mean_and_deviation(own) if own else MISSING for own in averages]
        lines.append(table_line([str(group), score_name(task_named(group.task)), *cells]))
    return lines


def by_language(results: Sequence[Result], group: Group, models: Sequence[str]) -> list[str]:
    """The lines of a table: a row for each model, a column for each language and the average; none without results."""
    rows = {model: own for model in models if (own := members(results, group, model))}
    if not rows:
        return []
    found = next(iter(rows.values()))[0].scores
    columns = [*(language for language in task_named(group.task).languages if language in found), AVERAGE]
    lines = ["", f"## {group}: {score_name(task_named(group.task))}", ""]
    lines += [table_line(["", "seeds", *columns]), table_line(["---"] * (len(columns) + 2))]
    for model, own in rows.items():
        seeds = ", ".join(MISSING if one.seed is None else str(one.seed) for one in own)
        lines.append(table_line([model, seeds, *(mean_and_deviation([r.score(c) for r in own]) for c in columns)]))
        if own[0].layers:
            chosen = [", ".join(str(one.layers[c]) for one in own) if c != AVERAGE else "" for c in columns]
            lines.append(table_line([f"{model}: layer", seeds, *chosen]))
    return lines


def notes(results: Sequence[Result], planned: Plan) -> list[str]:
    """Remarks that the tables do not make."""
    found = []
    if len(results) < len(planned.runs):
        found.append(f"{len(results)} of {len(planned.runs)} runs are done.")
    for reason in dict.fromkeys(planned.left_out.values()):
        names = (name for name, why in planned.left_out.items() if why == reason)
        found.append(f"Left out ({reason}): {'; '.join(names)}.")
    for task, hidden in planned.hidden.items():
        reason = next(iter(hidden.values()))
        found.append(f"{task_named(task).title}: no labels are known in {', '.join(hidden)} ({reason}).")
    if planned.untrained:
        models = ", ".join(f"{name} ({objective})" for name, objective in planned.untrained.items())
        found.append(f"Plugged in, but pre-training did not train the cross-attention: {models}.")
    if planned.own_pairs:
        own = (f"{group} ({', '.join(languages)})" for group, languages in planned.own_pairs.items())
        found.append(f"Without translations into English, tests are their own pairs: {'; '.join(own)}.")
    for group in planned.groups:
        if task_named(group.task).is_retrieval and len(planned.languages[group.task]) < MIN_FOR_LAYERS:
            layer = planned.comparison.retrieval_flags(group.task).get(
                "layer", "as finetune.understanding.predict has it"
            )
            found.append(f"{group}: one language, and no other to choose a layer on; layer {layer}.")
    return found


def table(results: Sequence[Result], planned: Plan) -> str:
    """All tables as Markdown, the averages first."""
    lines = ["Scores on the tests in percent; mean ± sd over the seeds.", "", *overview(results, planned)]
    lines += [line for note in notes(results, planned) for line in ("", note)]
    for group in planned.groups:
        lines += by_language(results, group, list(planned.comparison.models))
    return "\n".join(lines) + "\n"


def write_report(results: Sequence[Result], planned: Plan, output: Path) -> None:
    """Write table.md and results.json from the finished runs."""
    content = {
        "comparison": asdict(planned.comparison),
        "left_out": planned.left_out,
        "results": [
            {**asdict(result), "main": {name: result.score(name) for name in result.scores}} for result in results
        ],
    }
    texts = {
        "table.md": table(results, planned),
        "results.json": json.dumps(content, indent=1, ensure_ascii=False) + "\n",
    }
    write_texts(output, texts)


def compare(path: Path, output: Path, parallel: int = 1) -> None:
    """Do all unfinished runs. Raises ValueError for a wrong comparison, before the first run, or for failed runs."""
    planned = plan(read_comparison(path), output)
    check_unchanged(planned.settings(), output)
    processes = planned.comparison.processes

    def do_run(run: Run, share: dict[str, str]) -> None:
        do_stages(run.name, planned.stages(run), run.output, processes, share, own_log=parallel > 1)
        if run.recipe is not None:
            settle(run.output)

    do_all(planned.runs, do_run, lambda: write_report(planned.results(), planned, output), parallel, processes)
    print(f"\n{(output / 'table.md').read_text(encoding='utf-8')}")


def main() -> None:
    arguments = parse_arguments("finetune.understanding.compare", f"{__doc__}\n{comparison_file.__doc__}", COMPARISONS)
    compare(arguments.comparison, arguments.output, arguments.parallel)


if __name__ == "__main__":
    run_main(main)
