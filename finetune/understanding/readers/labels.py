"""Labels as a task spells them."""

from __future__ import annotations

from finetune.understanding.tasks.task import Task


def known_label(label: str, task: Task, where: str) -> str:
    """The label as the task spells it; raises ValueError that names the labels of the task."""
    label = task.label_spellings.get(label.strip(), label.strip())
    if label not in task.labels and label not in task.other_labels:
        raise ValueError(f"{where}: unknown label {label!r}; {task.name} has {', '.join(task.labels)}")
    return label
