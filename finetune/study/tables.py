"""The tables of a study: Markdown to read, CSV and JSON to reckon with."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from finetune.comparison import mean_and_deviation
from finetune.study.cells import Kind
from finetune.study.costs import Cost, costs_of
from finetune.study.plan import StudyPlan
from finetune.study.results import Cell, Comparisons, Findings, comparisons_of, score_of
from finetune.understanding.comparison.report import MISSING, table_line
from finetune.understanding.comparison.significance import Difference
from finetune.understanding.comparison.tables import (
    DIFFERENCE_COLUMNS,
    EXPLAINED,
    csv_text,
    difference_cells,
    interval,
    p_value,
)

MARKS = {Kind.OWN: "**", Kind.FOREIGN: "", Kind.CONTROL: "*", Kind.UNKNOWN: ""}  # of Markdown, around a cell
LEGEND = "**Bold**: pre-trained on the language of the column (upper bound); *italic*: random weights (control)."
COSTS = ("updates", "million tokens", "parameters", "trained", "minutes")
NAMES = {Kind.OWN: "own language", Kind.FOREIGN: "foreign language", Kind.CONTROL: "control"}


def markdown(findings: Findings, cells: Sequence[Cell]) -> str:
    """All tables as Markdown, and what they say about upper bound, foreign languages and control."""
    plan = findings.plan
    lines = [f"# {plan.study.path.stem}", ""]
    num_done = sum(step.is_done for step in plan.steps)
    if num_done < len(plan.steps):
        lines += [f"{num_done} of {len(plan.steps)} steps are done.", ""]
    if plan.columns:
        lines += score_table(cells, plan)
        lines += [f"- {sentence(one)}" for one in comparisons_of(cells)]
    if costs := costs_of(plan):
        lines += ["", "## Pre-training", "", *cost_table(costs)]
    if probes := findings.probes():
        lines += ["", "## Probes", "", *probe_table(probes)]
    for name, curves in findings.by_layer().items():
        lines += ["", f"### {name} by layer", "", *layer_table(curves)]
    if differences := findings.all_differences():
        lines += ["", "## Differences", "", EXPLAINED.format(draws=plan.study.draws)]
        for name, own in differences.items():
            lines += difference_table(name, own)
    return "\n".join(lines) + "\n"


def score_table(cells: Sequence[Cell], plan: StudyPlan) -> list[str]:
    """A row for each model, a column for each task and language, mean ± sd over the seeds."""
    averages = averages_of(plan)
    names = [column.name for column in plan.columns]
    by_place = {(cell.model, cell.column): cell for cell in cells}
    width = 1 + len(names) + len(averages)
    lines = [table_line(["", *names, *averages]), table_line(["---"] * width)]
    lines.append(table_line(["", *map(score_of, plan.columns), *[""] * len(averages)]))
    for model in plan.study.rows:
        own = {name: by_place.get((model, name)) for name in names}
        means = [mean_of([own[name] for name in over]) for over in averages.values()]
        lines.append(table_line([model, *map(shown, own.values()), *means]))
    unfinished = [cell for cell in cells if len(cell.scores) < len(plan.study.seeds)]
    seeds = plan.study.seeds
    over = f"mean ± sd over the seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    notes = [f"Percent, {over}. {LEGEND}"]
    if unfinished:
        notes.append(f"{len(unfinished)} cells lack seeds.")
    if dev := [column.name for column in plan.columns if column.is_on_dev]:
        notes.append(f"On dev: {', '.join(dev)}.")
    if chosen := [column.name for column in plan.columns if column.is_chosen_on_what_is_shown]:
        notes.append(f"The best checkpoints were chosen by the scores that are shown: {', '.join(chosen)}.")
    return [*lines, "", " ".join(notes), ""]


def averages_of(plan: StudyPlan) -> dict[str, list[str]]:
    """Name of an average -> the columns that it is over: all, or as the study says."""
    of_tasks = plan.study.averages or {"average": tuple(plan.study.tasks)}
    return {name: [column.name for column in plan.columns if column.entry in tasks] for name, tasks in of_tasks.items()}


def mean_of(cells: Sequence[Cell | None]) -> str:
    """The mean over cells as Markdown; none where one of them is missing."""
    means = [cell.mean for cell in cells if cell is not None]
    return f"{statistics.fmean(means):.2f}" if len(means) == len(cells) else MISSING


def shown(cell: Cell | None) -> str:
    """A cell as Markdown."""
    if cell is None:
        return MISSING
    mark = MARKS[cell.kind]
    return f"{mark}{mean_and_deviation(list(cell.scores.values()))}{mark}"


def cost_table(costs: Mapping[str, Cost]) -> list[str]:
    """A row for each model that was pre-trained; in several numbers of parameters that learned, one for each phase."""
    lines = [table_line(["", *COSTS]), table_line(["---"] * (len(COSTS) + 1))]
    for model, cost in costs.items():
        trained = " → ".join(f"{number:,}" for number in cost.trained) or MISSING
        sizes = [f"{cost.parameters:,}" if cost.parameters else MISSING, trained]
        lines.append(
            table_line([model, f"{cost.updates:,}", f"{cost.tokens / 1e6:.2f}", *sizes, f"{cost.seconds / 60:.1f}"])
        )
    return [*lines, "", "Minutes are those of updates: without starts, validations and checkpoints."]


def probe_table(probes: Mapping[str, Mapping[str, float]]) -> list[str]:
    """A row for each model, a column for each number, as the probe's file has it: of any unit."""
    names = list(dict.fromkeys(name for numbers in probes.values() for name in numbers))
    lines = [table_line(["", *names]), table_line(["---"] * (len(names) + 1))]
    for model, numbers in probes.items():
        lines.append(table_line([model, *(f"{numbers[name]:.4g}" if name in numbers else MISSING for name in names)]))
    return lines


def layer_table(curves: Mapping[str, Mapping[int, float]]) -> list[str]:
    """A row for each model, a column for each layer."""
    layers = sorted({layer for curve in curves.values() for layer in curve})
    lines = [table_line(["", *map(str, layers)]), table_line(["---"] * (len(layers) + 1))]
    for model, curve in curves.items():
        cells = [f"{curve[layer]:.4g}" if layer in curve else MISSING for layer in layers]
        lines.append(table_line([model, *cells]))
    return lines


def difference_table(column: str, differences: Sequence[Difference]) -> list[str]:
    """A row for each pair of models of a column."""
    lines = ["", f"### {column}", "", table_line(["difference", "", "95 %, examples", "p, examples", "p, seeds"])]
    lines.append(table_line(["---"] * 5))
    for one in differences:
        cells = [f"{one.model} − {one.baseline}", f"{one.difference:+.2f}", interval(one.over_examples)]
        lines.append(table_line([*cells, p_value(one.over_examples), p_value(one.over_seeds)]))
    return lines


def sentence(one: Comparisons) -> str:
    """In how many pairs of cells one kind is above the other."""
    pairs = f"{one.held} of {one.total} pairs of cells of a column ({one.share:.0f} %)"
    return f"{NAMES[one.better].capitalize()} above {NAMES[one.worse]} in {pairs}."


def cells_csv(cells: Sequence[Cell], plan: StudyPlan) -> str:
    """A line for each cell: mean and sample sd over the seeds."""
    columns = {column.name: column for column in plan.columns}
    rows = []
    for cell in cells:
        column = columns[cell.column]
        own: dict[str, object] = {
            "model": cell.model,
            "task": cell.column,
            "language": column.language,
            "kind": cell.kind.value,
        }
        own |= {"score": score_of(column), "seeds": len(cell.scores), "mean": cell.mean}
        rows.append({**own, **({} if cell.deviation is None else {"sd": cell.deviation})})
    return csv_text(("model", "task", "language", "kind", "score", "seeds", "mean", "sd"), rows)


def differences_csv(findings: Findings) -> str:
    """A line for each column and pair of models."""
    rows = [{"task": name, **difference_cells(one)} for name, own in findings.all_differences().items() for one in own]
    return csv_text(("task", *DIFFERENCE_COLUMNS), rows)


def results_json(findings: Findings, cells: Sequence[Cell]) -> str:
    """All numbers: cells with the scores of each seed, differences, comparisons of kinds, costs, probes."""
    content = {
        "cells": [asdict(cell) for cell in cells],
        "comparisons": [{**asdict(one), "share": one.share} for one in comparisons_of(cells)],
        "differences": {name: [asdict(one) for one in own] for name, own in findings.all_differences().items()},
        "costs": {model: asdict(cost) for model, cost in costs_of(findings.plan).items()},
        "probes": findings.probes(),
        "by_layer": findings.by_layer(),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
