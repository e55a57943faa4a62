"""Run the analyses that the data allow, and write one HTML page with all their figures, tables and commands.

    python -m analysis.report MODEL --data DATA --output DIR
    python -m analysis.report MODEL --data DATA --before OTHER --entailment-model runs/rte --output DIR
    python -m analysis.report MODEL --data DATA --analyses alignment,syntax --output DIR

DATA has what is there of the following, plain or compressed:

  alignment/NAME.tsv                pairs with gold links: source TAB target TAB links such as 0-0 1-2;
                                    the layer is chosen on alignment/NAME.dev.tsv if there is one
  treebank/{train,dev,test}.conllu  a treebank; more tests are test-LANGUAGE.conllu
  text/LANGUAGE.txt                 a sentence a line; without any, those of parallel/ are read
  parallel/LANGUAGE.txt             the same, line i of each file being a translation of line i of the others
  winogender/                       Winogender's templates.tsv and occupations-stats.tsv; or the file AX-g.jsonl

Masked words (analysis.forgetting) need a MODEL that was pre-trained, and are compared with the model --before. Gender
bias needs one that was fine-tuned for entailment: --entailment-model, or else MODEL itself.

Each analysis is a command with a process of its own: its results are in DIR/JOB, what it printed in DIR/JOB.log. One
that fails is named in the page, and the others go on. A second call runs what failed, what is new, and what depends on
files that have changed; the rest is taken from DIR. DIR/report.html opens from disk: it has no links to other files and
no scripts.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from analysis.options import choices, model_parser
from analysis.reporting.analyses import ANALYSES, Analysis, Inputs, Job, NotPossibleError
from analysis.reporting.model_summary import summary_of
from analysis.reporting.page import Section, render, shown_run
from analysis.reporting.running import RECORD, Task, run_tasks, task_of
from data_tools.cli import first_of, refuse_unread, run_main
from data_tools.files.atomic import write_texts
from data_tools.files.directories import claim
from data_tools.files.outputs import check_output_directory
from finetune.model_directory import model_directory
from finetune.steps import held
from finetune.understanding.flags import ENCODERS
from training.launch import quiet_libraries
from training.run_directory.kinds import Kind

PROGRAM = "analysis.report"
PAGE = "report.html"


def parse_arguments() -> argparse.Namespace:
    parser = model_parser(PROGRAM, __doc__, "a VECO, or another encoder of transformers")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="directory of the data, as above")
    parser.add_argument("--before", type=Path, metavar="MODEL", help="the model before a change, for masked words")
    parser.add_argument("--entailment-model", type=Path, metavar="MODEL", help="fine-tuned, for gender bias")
    known = ",".join(analysis.name for analysis in ANALYSES)
    parser.add_argument("--analyses", default=known, help=f"of {known} (default: all that the data allow)")
    options = parser.parse_args()
    names = choices("analyses", options.analyses, [analysis.name for analysis in ANALYSES])
    for flag, analysis in (("before", "forgetting"), ("entailment_model", "bias")):
        if analysis not in names:
            refuse_unread(parser, options, {flag: f"the analysis {analysis}"})
    return options


def inputs_of(options: argparse.Namespace) -> Inputs:
    """The models and the data. Raises ValueError for what is not there."""
    if not options.data.is_dir():
        raise ValueError(f"--data {options.data}: no such directory")
    before, entailment = options.before, options.entailment_model
    return Inputs(
        model_directory(options.model, ENCODERS),
        options.data,
        None if before is None else model_directory(before, [Kind.PRETRAINING]),
        None if entailment is None else model_directory(entailment, [Kind.TASK]),
    )


def jobs_by_analysis(analyses: Sequence[Analysis], inputs: Inputs) -> Iterator[tuple[Analysis, list[Job], str]]:
    """(analysis, its jobs, why there are none, in words)."""
    for analysis in analyses:
        try:
            jobs = list(analysis.jobs(inputs))
        except NotPossibleError as error:
            yield analysis, [], str(error)
        else:
            yield analysis, jobs, "" if jobs else analysis.needs


def main() -> None:
    options = parse_arguments()
    quiet_libraries()
    names = choices("analyses", options.analyses, [analysis.name for analysis in ANALYSES])
    inputs = inputs_of(options)
    summary = summary_of(inputs.model)
    shared = ["--dtype", options.dtype, "--seed", str(options.seed)]
    if options.max_tokens is not None:
        shared += ["--max-tokens", str(options.max_tokens)]
    planned: list[tuple[Analysis, list[Task], str]] = [
        (analysis, [task_of(analysis, job, shared, options.output) for job in jobs], reason)
        for analysis, jobs, reason in jobs_by_analysis([one for one in ANALYSES if one.name in names], inputs)
    ]
    tasks = [task for _, own, _ in planned for task in own]
    if not tasks:
        reasons = "; ".join(f"{analysis.name}: {reason}" for analysis, _, reason in planned)
        raise ValueError(f"{options.data}: nothing to analyse; expected, for {reasons}")
    check_output_directory(options.output, [options.data, *(path for task in tasks for path in task.job.reads)])
    names_of_tasks = [path.name for task in tasks for path in (task.results, task.log)]
    with held(options.output):
        claim(options.output, [PAGE, RECORD, *names_of_tasks], PROGRAM)
        outcomes = run_tasks(tasks, options.output)
        sections = [
            Section(analysis, [shown_run(task, outcomes[task.job.name]) for task in own], reason)
            for analysis, own, reason in planned
        ]
        command = shlex.join(["python", "-m", PROGRAM, *sys.argv[1:]])
        write_texts(options.output, {PAGE: render(str(options.model), command, summary, sections)})
    print(options.output / PAGE)
    if failed := [name for name, outcome in outcomes.items() if outcome.error]:
        raise ValueError(f"{len(failed)} of {len(tasks)} analyses failed: {first_of(failed)}; the page says why")


if __name__ == "__main__":
    run_main(main)
