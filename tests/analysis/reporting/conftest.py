"""A page of a report with all that it can have: figures, tables, a command that failed, and one that was not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.figures import Bars, Curve, draw_bars, draw_curves
from analysis.reporting.analyses import ANALYSES, Job
from analysis.reporting.page import Section, render, shown_run
from analysis.reporting.running import Outcome, Task, task_of
from analysis.results import Column, Table, write_results

MODEL = "runs/<script>alert('model')</script>&amp;"
ODD = "<img src=x onerror=alert(1)> & \"quotes\" | 'and' “more”"


def written(root: Path, name: str, job: str, tables: list[Table]) -> Task:
    """The task of a job whose results are tables."""
    analysis = next(one for one in ANALYSES if one.name == name)
    task = task_of(analysis, Job(job, root, ["--data", ODD], []), [], root / "output")
    task.results.mkdir(parents=True)
    write_results(task.results, name, "Heading", {}, tables, tables[0])
    return task


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    wide = Table(ODD, [Column(f"column {number}") for number in range(40)], [[1.5 + number for number in range(40)]])
    long = Table("Long", [Column("name"), Column("share", is_percent=True)], [[ODD * 3, 0.5], ["x", None]] * 20)
    alignments = [written(root, "alignment", f"alignment-{name}", [long]) for name in ("en-de", "en-fr")]
    for task in alignments:
        draw_curves(task.results, "aer", {"AER, %": [Curve("a", [0, 1], [3.0, 2.0])]}, "layer", "alignment")
    forgetting = written(root, "forgetting", "forgetting", [wide, long])
    draw_bars(forgetting.results, "forgetting", {"loss": [Bars("x", ["en", "de"], [1, 2])]}, "masked words")
    failed = written(root, "syntax", "syntax", [long])
    failed.log.write_text(f"a line\nerror: {ODD}\n{'x' * 500}\n")
    by_name = {analysis.name: analysis for analysis in ANALYSES}
    sections = [
        Section(by_name["alignment"], [shown_run(task, Outcome(3.0)) for task in alignments], ""),
        Section(by_name["syntax"], [shown_run(failed, Outcome(2.0, f"error: {ODD}"))], ""),
        Section(by_name["forgetting"], [shown_run(forgetting, Outcome(1.0))], ""),
        Section(by_name["bias"], [], f"needs {ODD}"),
    ]
    path = root / "report.html"
    summary = [("kind", "veco"), ("special tokens", "<s> </s> <mask>"), ("model", "x" * 200)]
    path.write_text(render(MODEL, f"python -m analysis.report '{MODEL}'", summary, sections), encoding="utf-8")
    return path
