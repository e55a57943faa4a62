"""Run a study: tokenizers, data, pre-training, change of vocabulary, fine-tuning and probes as one graph of steps.

    python -m finetune.study STUDY.yaml --output DIR [--parallel N]
    python -m finetune.study STUDY.yaml --output DIR --list

Each step is a command that you could type; --list prints them all as a shell script and does nothing. A step begins
when those that it needs are finished, and is made once. What is finished is skipped: the same command goes on with a
stopped study. A step that fails is named at the end, and what does not need it goes on. A finished step whose settings
have changed in STUDY.yaml is refused.

    DIR/table.md, table.csv, results.json    models x tasks, mean ± sd over seeds; parameters and minutes of
                                             pre-training; probes; differences with intervals
    DIR/table.{png,svg}                      the table in colours: own language, foreign language, control
    DIR/differences.csv                      paired bootstrap over examples, t-test over seeds
    DIR/learning_curves.{png,svg}            losses of pre-training
    DIR/by_layer.{png,svg}                   what probes found in each layer
    DIR/{tokenizers,data,models,finetuning,probes}/NAME, with log.txt

These are written anew after each step, from what is finished; differences once all models of a column are.
"""

from __future__ import annotations

from pathlib import Path

from data_tools.cli import run_main
from data_tools.files.atomic import write_texts
from data_tools.files.directories import claim
from finetune.steps import check_unchanged, held, parse_steps, run_steps, steps_parser
from finetune.study import configuration
from finetune.study.figures import draw_curves, draw_layers, draw_table
from finetune.study.plan import StudyPlan, plan_of
from finetune.study.reading import read_study
from finetune.study.results import Findings
from finetune.study.tables import cells_csv, differences_csv, markdown, results_json
from finetune.understanding.recipe import UnderstandingRecipe
from training.figures import FORMATS

COMMAND = "finetune.study"
STUDIES = Path(__file__).resolve().parents[1] / "studies"
TABLE, CURVES, LAYERS = "table", "learning_curves", "by_layer"
REPORTS = ("table.md", "table.csv", "differences.csv", "results.json")
DIRECTORIES = ("tokenizers", "data", "models", "finetuning", "probes")


def run_study(plan: StudyPlan, output: Path, parallel: int) -> None:
    """Do all unfinished steps, and write the report after each. Raises ValueError for steps that failed, at the end."""
    with held(output):
        prepare_output(plan, output)
        problems = do_steps(plan, output, parallel)
    if problems:
        raise ValueError("; ".join(problems))


def prepare_output(plan: StudyPlan, output: Path) -> None:
    """Write what the steps read. Raises ValueError where steps that have begun were begun otherwise."""
    settings = plan.settings()
    begun = [step.name for step in plan.steps if step.has_begun]
    # Files of the user are recorded since a later version: what was begun before had those that there are.
    given = {name: text for step in plan.steps for name, text in plan.given_files(step).items()}
    check_unchanged(settings, output, begun, {**UnderstandingRecipe.defaults(), **given})
    figures = [f"{stem}.{form}" for stem in (TABLE, CURVES, LAYERS) for form in FORMATS]
    claim(output, [*REPORTS, *figures], COMMAND)
    for path, text in plan.files.items():
        write_texts(path.parent, {path.name: text})


def do_steps(plan: StudyPlan, output: Path, parallel: int) -> list[str]:
    """Do all unfinished steps, and write the report after each; returns what failed."""
    findings, problems = Findings(plan), []
    unfinished = [step for step in plan.steps if not step.is_done]
    print(f"{len(plan.steps)} steps, {len(plan.steps) - len(unfinished)} of them done before", flush=True)
    for step in plan.steps:
        if step.is_done:
            try:
                step.settle()
            except ValueError as error:
                problems.append(str(error))
    try:
        run_steps(unfinished, lambda: report(findings, output), parallel, plan.study.processes, own_logs=True)
    except ValueError as error:
        problems.append(str(error))
    finally:
        report(findings, output, is_over=True)
        print(f"\n{(output / 'table.md').read_text(encoding='utf-8')}\n{output / 'table.png'}")
    return problems


def report(findings: Findings, output: Path, is_over: bool = False) -> None:
    """Write tables and figures from the finished steps; at the end, differences of unfinished columns, too."""
    findings.update_differences(of_unfinished=is_over)
    cells = findings.cells()
    texts = {
        "table.md": markdown(findings, cells),
        "table.csv": cells_csv(cells, findings.plan),
        "differences.csv": differences_csv(findings),
        "results.json": results_json(findings, cells),
    }
    write_texts(output, texts)
    if cells:
        draw_table(cells, findings.plan, output / TABLE)
    draw_curves(findings.plan, output / CURVES)
    draw_layers(findings.by_layer(), output / LAYERS)


def main() -> None:
    parser = steps_parser(COMMAND, f"{__doc__}\n{configuration.__doc__}", STUDIES, "STUDY.yaml")
    parser.add_argument("--list", "--dry-run", action="store_true", help="print the commands of all steps and stop")
    options = parse_steps(parser)
    plan = plan_of(read_study(options.file), options.output)
    if options.list:
        print(plan.script())
    else:
        run_study(plan, plan.places.output, options.parallel)


if __name__ == "__main__":
    run_main(main)
