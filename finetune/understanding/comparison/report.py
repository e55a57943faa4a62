"""Reports of scores: Markdown tables beside the paper's figures, and a heat map of tasks and languages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from finetune.understanding.comparison.heat_map import draw_grid
from finetune.understanding.comparison.published import PUBLISHED
from finetune.understanding.metrics.scoring import AVERAGE, task_score
from finetune.understanding.tasks.catalogues import XTREME, Catalogue
from finetune.understanding.tasks.task import Head, Task

# {task: {language or "avg": {metric: percent}}}
TaskScores = Mapping[str, Mapping[str, Mapping[str, float]]]
MISSING = "–"


def markdown(scores: TaskScores, overall: float | None, catalogue: Catalogue) -> str:
    """Tables of the averages of all tasks, below the paper's for XTREME, and of each task by language."""
    tasks = catalogue.tasks
    header = ["", *(task.title for task in tasks.values()), "average"]
    rows = [header, ["---"] * len(header)]
    for row in PUBLISHED if catalogue.name == XTREME else ():
        cells = [_cell(task, row.scores[task.name]) for task in tasks.values()]
        rows.append([f"{row.setting}: {row.model}, published", *cells, f"{row.average:.1f}"])
    cells = [_cell(task, scores[name][AVERAGE]) if name in scores else MISSING for name, task in tasks.items()]
    rows.append(["**these predictions**", *cells, MISSING if overall is None else f"{overall:.1f}"])
    lines = [table_line(row) for row in rows]
    for name, by_language in scores.items():
        task = tasks[name]
        languages = [language for language in task.languages if language in by_language]
        figures = [_cell(task, by_language[language]) for language in languages]
        lines += ["", table_line([task.title, *languages, AVERAGE]), table_line(["---"] * (len(languages) + 2))]
        lines.append(table_line([_metric_name(task), *figures, _cell(task, by_language[AVERAGE])]))
    return "\n".join(lines) + "\n"


def score_name(task: Task) -> str:
    """The name of a task's score, for people."""
    names = " and ".join(task.main_metrics).replace("_", " ")
    return f"mean of {names}" if len(task.main_metrics) > 1 else names


def _metric_name(task: Task) -> str:
    return "F1 / EM" if _has_both(task) else score_name(task)


def _has_both(task: Task) -> bool:
    """Whether a task has both metrics of questions, which are shown side by side."""
    return task.head is Head.SPAN and {"f1", "exact_match"} <= set(task.metrics)


def _cell(task: Task, figures: Mapping[str, float]) -> str:
    """Scores as the paper prints them: F1/EM for questions."""
    if _has_both(task):
        return f"{figures['f1']:.1f}/{figures['exact_match']:.1f}"
    return f"{task_score(task, figures):.1f}"


def table_line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def draw_heat_map(scores: TaskScores, path: Path, catalogue: Catalogue) -> None:
    """Draw a PNG with a row for each task and a column for each language, those of most tasks first."""
    tasks = [catalogue.tasks[name] for name in scores]
    found = {language for by_language in scores.values() for language in by_language} - {AVERAGE}
    languages = sorted(found, key=lambda language: (-sum(language in scores[task.name] for task in tasks), language))
    columns = [AVERAGE, *languages]
    grid = [
        [task_score(task, scores[task.name][c]) if c in scores[task.name] else float("nan") for c in columns]
        for task in tasks
    ]
    names = dict.fromkeys(score_name(task) for task in tasks)
    draw_grid(grid, [task.title for task in tasks], columns, path, f"{catalogue.title}: {', '.join(names)}")
