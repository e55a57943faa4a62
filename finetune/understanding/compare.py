"""Compare pre-trained models with equal budgets: VECO, XLM, random weights; tasks, settings, modes, seeds.

    python -m finetune.understanding.compare COMPARE.yaml --output DIR

Every run is trained, predicts and is scored by the public commands, each in a process of its own. DIR/table.md and
DIR/results.json have the averages of all models side by side, then each task by language, and the differences between
models with their significance; DIR/table.csv and DIR/significance.csv have the same numbers, DIR/heat_map-*.png a map
of each task. Finished steps are skipped, so the same command resumes a stopped comparison; the tables are rewritten
after each run, from the finished runs. Of a finished run only the best model is kept, in DIR/runs/NAME/model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import MappingProxyType

from data_tools.cli import run_main
from data_tools.files.atomic import write_texts
from data_tools.files.directories import claim
from finetune.steps import Step, check_unchanged, held, nothing, parse_steps, run_steps, steps_parser
from finetune.understanding.comparison import configuration as comparison_file
from finetune.understanding.comparison.configuration import Group, read_comparison
from finetune.understanding.comparison.findings import differences_of, draw_heat_map, heat_map_name
from finetune.understanding.comparison.plan import Plan, Result, plan
from finetune.understanding.comparison.runs import TRANSLATED
from finetune.understanding.comparison.significance import Difference
from finetune.understanding.comparison.tables import Differences, scores_csv, significance_csv, table
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.search import settle as settle_run

COMMAND = "finetune.understanding.compare"
COMPARISONS = Path(__file__).resolve().parent / "comparisons"


def write_report(
    results: Sequence[Result], planned: Plan, output: Path, differences: Differences = MappingProxyType({})
) -> None:
    """Write the tables from the finished runs, with the differences between models where they are known."""
    content = {
        "comparison": asdict(planned.comparison),
        "left_out": planned.left_out,
        "results": [
            {**asdict(result), "main": {name: result.score(name) for name in result.scores}} for result in results
        ],
        "differences": [{**asdict(group), **asdict(one)} for group, own in differences.items() for one in own],
    }
    texts = {
        "table.md": table(results, planned, differences),
        "results.json": json.dumps(content, indent=1, ensure_ascii=False) + "\n",
        "table.csv": scores_csv(results, planned),
        "significance.csv": significance_csv(differences),
    }
    write_texts(output, texts)


def report(planned: Plan, output: Path, differences: dict[Group, Sequence[Difference]]) -> None:
    """Rewrite the report; groups that have become complete are tested and drawn, and kept in `differences`."""
    results = planned.results()
    for group in planned.groups:
        if group not in differences and all(planned.is_done(run) for run in planned.runs if run.group == group):
            differences[group] = differences_of(results, group, planned)
            draw_heat_map(results, group, planned, output)
    write_report(results, planned, output, differences)


def compare(path: Path, output: Path, parallel: int = 1) -> None:
    """Do all unfinished runs. Raises ValueError for a wrong comparison, before the first run, or for failed runs."""
    planned = plan(read_comparison(path), output)
    with held(output):
        check_unchanged(planned.settings(), output, defaults=UnderstandingRecipe.defaults())
        names = ["table.csv", "significance.csv", *map(heat_map_name, planned.groups)]
        claim(output, names, COMMAND)  # other files are known by runs.json
        differences: dict[Group, Sequence[Difference]] = {}
        run_steps(
            steps_of(planned, output),
            lambda: report(planned, output, differences),
            parallel,
            planned.comparison.processes,
            own_logs=parallel > 1,
        )
    print(f"\n{(output / 'table.md').read_text(encoding='utf-8')}")


def steps_of(planned: Plan, output: Path) -> list[Step]:
    """The translations of tests, if there are any, and a step for each run, in order.

    Runs that share a training need one another in turn, lest both begin it.
    """
    translations = planned.translations()
    steps = [Step(TRANSLATED, output / TRANSLATED, tuple(translations))] if translations else []
    before: dict[Path, str] = {}
    for run in planned.runs:
        needs = [before[run.trained]] if run.trained in before else []
        needs += [TRANSLATED] if translations and run.translated is not None else []
        settle = partial(settle_run, run.trained) if run.recipe is not None else nothing
        steps.append(Step(run.name, run.output, tuple(planned.stages(run)), tuple(needs), settle))
        before[run.trained] = run.name
    return steps


def main() -> None:
    arguments = parse_steps(steps_parser(COMMAND, f"{__doc__}\n{comparison_file.__doc__}", COMPARISONS))
    compare(arguments.file, arguments.output, arguments.parallel)


if __name__ == "__main__":
    run_main(main)
