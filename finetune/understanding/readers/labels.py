"""Labels as a task spells them."""

from __future__ import annotations

from collections.abc import Iterable

from finetune.understanding.tasks.task import Task

LINE_MARKS = "\t\r\n"


def known_label(label: str, task: Task, where: str) -> str:
    """The label as the task spells it; raises ValueError that names the labels of the task.

    A task whose labels are still to be found in its training text has any but an empty one. Labels with a tab or a line
    end are refused: files of labels have one a line.
    """
    label = task.label_spellings.get(label.strip(), label.strip())
    if any(mark in label for mark in LINE_MARKS):
        raise ValueError(f"{where}: the label {label!r} has a tab or a line end")
    if not task.labels and not label:
        raise ValueError(f"{where}: an empty label")
    if task.labels and label not in task.labels and label not in task.other_labels:
        raise ValueError(f"{where}: unknown label {label!r}; {task.name} has {', '.join(task.labels)}")
    return label


def known_labels(parts: Iterable[str], task: Task, where: str) -> tuple[str, ...]:
    """The labels of one example, each once, in the order of the task."""
    found = dict.fromkeys(known_label(part, task, where) for part in parts)
    return tuple(label for label in task.labels if label in found) if task.labels else tuple(found)


def number_of(cell: str, where: str) -> float:
    """The number of a regression or a grade; raises ValueError for anything else, and for nan or infinity."""
    try:
        number = float(cell)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise ValueError(f"{where}: expected a number, found {cell!r}")
    return number
