"""Write the tables of docs/tasks.md, between their marks, from the catalogues of tasks."""

from __future__ import annotations

from pathlib import Path

from marks import page_with

from finetune.understanding.tasks.catalogues import XTREME, catalogue_named, catalogue_names
from finetune.understanding.tasks.task import Head, Split, Task

PAGE = Path(__file__).resolve().parent / "tasks.md"
NUM_LISTED = 5  # languages that are listed; more are counted
PREDICTED = {
    Head.SEQUENCE: "a class",
    Head.MULTILABEL: "several classes",
    Head.REGRESSION: "a number",
    Head.CONTEXT_WORD: "a class, for a word in two texts",
    Head.RANKING: "a score for each candidate",
    Head.CHOICE: "one of several texts",
    Head.TOKEN: "a tag for each word",
    Head.SPAN: "a span of a text",
    Head.MINING: "pairs of translations",
    Head.SEARCH: "the matching text of many",
}


def catalogue_table(name: str) -> str:
    """A table of one catalogue's tasks."""
    rows = [
        "| `--task` | name | predicts | languages | score (and further metrics) | file of the test | source |",
        "|---|---|---|---|---|---|---|",
        *(f"| `{name}/{task.name}` | {' | '.join(cells(task))} |" for task in catalogue_named(name).tasks.values()),
    ]
    return "\n".join(rows)


def cells(task: Task) -> list[str]:
    """The cells of a task, but for its place in a catalogue."""
    languages = ", ".join(task.languages) if len(task.languages) <= NUM_LISTED else str(len(task.languages))
    further = [metric for metric in task.metrics if metric not in task.main_metrics]
    score = ("mean of " if len(task.main_metrics) > 1 else "") + " and ".join(map(named, task.main_metrics))
    score += f" ({', '.join(map(named, further))})" if further else ""
    return [
        task.title,
        f"{PREDICTED[task.head]} (`{task.head}`{', `pool`' if task.pool else ''})",
        languages,
        score,
        f"`{task.files[Split.TEST][0].path}`",
        task.source,
    ]


def named(metric: str) -> str:
    """A metric as task files and scores name it."""
    return f"`{metric}`"


def page_with_tables(page: str) -> str:
    """The page with each table between the marks `<!-- NAME -->` and `<!-- /NAME -->` made anew.

    Raises ValueError for a catalogue without marks.
    """
    for name in catalogue_names():
        if name == XTREME:  # which has a page of its own
            continue
        page = page_with(page, name, catalogue_table(name), PAGE.name)
    return page


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
