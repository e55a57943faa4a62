"""The head of a task."""

from __future__ import annotations

from finetune.understanding.heads.classification import Classification
from finetune.understanding.heads.head import Limits, TaskHead
from finetune.understanding.heads.question_answering import QuestionAnswering
from finetune.understanding.heads.tagging import Tagging
from finetune.understanding.tasks.task import Head, Task


def build_head(task: Task, limits: Limits, average_pair: bool = False) -> TaskHead:
    """The head of a task. Raises ValueError for a task without training, and for limits that contradict each other."""
    if task.head is Head.SEQUENCE:
        return Classification(task.labels, limits.max_length, average_pair)
    if task.head is Head.TOKEN:
        return Tagging(task.labels, limits.max_length, limits.stride)
    if task.head is Head.SPAN:
        return QuestionAnswering(limits)
    raise ValueError(f"task {task.name} has no training; finetune.understanding.predict compares embeddings of a model")
