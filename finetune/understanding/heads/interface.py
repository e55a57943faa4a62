"""What a task's kind of prediction needs: rows from examples, a model, predictions from its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from transformers.utils import ModelOutput

from finetune.understanding.heads.classification import Classification
from finetune.understanding.heads.question_answering import QuestionAnswering
from finetune.understanding.heads.tagging import Tagging
from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.rows.windows import PairedRows, Rows
from finetune.understanding.tasks.table import Head, Task
from training.step import Batch
from veco import VecoConfig
from veco.classification import VecoClassifier


@dataclass(frozen=True)
class Limits:
    """Sizes of rows and answers; the recipe's fields of the same names explain them."""

    max_length: int
    stride: int
    max_question_length: int
    max_answer_length: int
    num_best: int


class TaskHead(Protocol):
    """One kind of prediction."""

    model_class: type[VecoClassifier]
    labels: Sequence[str]  # names of the classes; empty where classes have none

    def encode(self, examples: Iterable[Any], encoder: TextEncoder) -> Rows:
        """Rows of all examples, with their targets unless an example has none."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the labels of a batch, of both sides."""

    def results(self, rows: PairedRows) -> dict[str, np.ndarray]:
        """Zeros for what is kept of the model's outputs; ranks add theirs up."""

    def store(self, results: dict[str, np.ndarray], output: ModelOutput, rows: PairedRows, numbers: np.ndarray) -> None:
        """Nothing; puts what the model gave for the batch of rows `numbers` into `results`."""

    def predictions(self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[Any]) -> Any:
        """What is predicted, in the form that the task's score and prediction file take."""


def head_for(task: Task, limits: Limits, average_pair: bool = False) -> TaskHead:
    """The head of a task. Raises ValueError for a task without one, and for limits that do not go together."""
    if task.head is Head.SEQUENCE:
        return Classification(task.labels, limits.max_length, average_pair)
    if task.head is Head.TOKEN:
        return Tagging(task.labels, limits.max_length, limits.stride)
    if task.head is Head.SPAN:
        return QuestionAnswering(**limits.__dict__)
    raise ValueError(f"task {task.name} has no training; finetune.understanding.predict compares embeddings of a model")


def check_fits(limits: Limits, config: VecoConfig) -> None:
    """Raise ValueError when rows are longer than the model has positions."""
    if limits.max_length > config.max_tokens:
        raise ValueError(f"max_length {limits.max_length} exceeds the {config.max_tokens} tokens the model takes")
