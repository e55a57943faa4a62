"""The head of a task."""

from __future__ import annotations

from finetune.understanding.heads.classification import Classification
from finetune.understanding.heads.context_word import ContextWord
from finetune.understanding.heads.head import Limits, TaskHead
from finetune.understanding.heads.multilabel import MultiLabel
from finetune.understanding.heads.multiple_choice import MultipleChoice
from finetune.understanding.heads.question_answering import QuestionAnswering
from finetune.understanding.heads.regression import Regression
from finetune.understanding.heads.tagging import Tagging
from finetune.understanding.tasks.task import Head, Task


def build_head(task: Task, limits: Limits, average_pair: bool = False) -> TaskHead:
    """The head of a task. Raises ValueError for a task without training, and for labels that a head cannot write."""
    match task.head:
        case Head.SEQUENCE:
            return Classification(task.labels, limits.max_length, average_pair)
        case Head.MULTILABEL:
            return MultiLabel(task.labels, limits.max_length, average_pair)
        case Head.REGRESSION | Head.RANKING:
            return Regression(limits.max_length, average_pair)
        case Head.CONTEXT_WORD:
            return ContextWord(task.labels, limits.max_length, average_pair)
        case Head.CHOICE:
            return MultipleChoice(limits.max_length, average_pair)
        case Head.TOKEN:
            return Tagging(task.labels, limits.max_length, limits.stride)
        case Head.SPAN:
            return QuestionAnswering(limits)
    raise ValueError(f"task {task.name} has no training; finetune.understanding.predict compares embeddings of a model")
