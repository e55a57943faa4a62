"""The interface of a head: a model, its rows from examples, and predictions from its outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from transformers.utils import ModelOutput

from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.token_rows import TokenRows
from training.step import Batch
from veco.classification import VecoClassifier
from veco.labels import Labelled


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Sizes of rows and answers; the recipe explains them, in fields of the same names."""

    max_length: int
    stride: int
    max_question_length: int
    max_answer_length: int
    num_best: int


class TaskHead(Protocol):
    """One kind of prediction."""

    model_class: type[VecoClassifier]  # VECO's; that of another encoder is `model_class_of`
    outputs: Sequence[str]  # names of the model's outputs, as in its configuration, such as the labels
    problem_type: str | None  # which loss of sequences the model computes, as in its configuration

    def encode(self, examples: Iterable[Any], encoder: TextEncoder) -> TokenRows:
        """The rows of all examples, with their targets unless an example has none."""

    def labelled(self, model: nn.Module, batch: Batch) -> list[Labelled]:
        """A model's logits of what has labels in a batch, and the labels, of both sequences if plugged in."""

    def loss(self, labelled: list[Labelled]) -> Tensor:
        """The mean loss over labels."""

    def results(self, rows: PairedRows) -> dict[str, np.ndarray]:
        """Zeros in the shapes of all that is kept of the model's outputs, which are summed over ranks."""

    def store(self, results: dict[str, np.ndarray], output: ModelOutput, rows: PairedRows, numbers: np.ndarray) -> None:
        """Store in `results` the model's output for the batch of rows `numbers`."""

    def predictions(self, results: dict[str, np.ndarray], rows: PairedRows, examples: Sequence[Any]) -> Any:
        """The predictions for all examples, in the form that `score` and prediction files take."""
