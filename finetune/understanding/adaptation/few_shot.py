"""A few training examples of each class, the same for every model."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from finetune.understanding.tasks.examples import Example, LabelledText, Question
from finetune.understanding.tasks.task import Head, Task

OF_ONE_CLASS = (Head.SEQUENCE, Head.CONTEXT_WORD)  # heads whose every example has one class
Unit = int | str  # what is drawn: an example by its row or id, a query with all its candidates by its group


@dataclass(frozen=True)
class FewShot:
    """`count` examples of each class, or of a task without classes in all; a ranking's are queries.

    Those are drawn whose row or id comes first in an order that `seed` decides: parallel files, and files of the same
    questions, give the same ones.
    """

    count: int
    seed: int

    def draw(self, examples: Iterable[tuple[int, Example]], task: Task, where: str) -> frozenset[int]:
        """The rows of the drawn examples among (row, example). Raises ValueError for a class with fewer.

        An example whose label is no class is never drawn: see `Task.other_labels`.
        """
        rows: dict[str, dict[Unit, list[int]]] = {label: {} for label in classes_of(task)}
        for row, example in examples:
            label = class_of(task, example)
            if label in task.other_labels:
                continue
            of_class = rows.setdefault(label, {})
            of_class.setdefault(unit_of(row, example), []).append(row)
        for label, units in rows.items():
            if len(units) < self.count:
                which = f" of the class {label}" if label else ""
                raise ValueError(f"train_examples {self.count}: {where} has only {len(units)} training examples{which}")
        return frozenset(
            row
            for units in rows.values()
            for unit in heapq.nsmallest(self.count, units, key=self._place)
            for row in units[unit]
        )

    def _place(self, unit: Unit) -> bytes:
        """The place of an example in the order of the seed."""
        return hashlib.blake2b(f"{self.seed}\t{unit}".encode(), digest_size=16).digest()


def classes_of(task: Task) -> tuple[str, ...]:
    """The classes of which examples are drawn; a single one without a name for other tasks."""
    return task.labels if task.head in OF_ONE_CLASS else ("",)


def class_of(task: Task, example: Example) -> str:
    """The one of `classes_of` to which an example belongs."""
    return str(example.label) if task.head in OF_ONE_CLASS and isinstance(example, LabelledText) else ""


def unit_of(row: int, example: Example) -> Unit:
    """The unit to which the example of a row belongs."""
    if isinstance(example, Question):
        return example.id
    return example.group if isinstance(example, LabelledText) and example.group else row
