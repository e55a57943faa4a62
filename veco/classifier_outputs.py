"""The outputs of the models that classify: transformers' own and, plugged in, the logits of the paired sequences."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.modeling_outputs import (
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)


@dataclass
class VecoSequenceClassifierOutput(SequenceClassifierOutput):
    """transformers' output and, plugged in, the logits of the paired sequences."""

    pair_logits: Tensor | None = None


@dataclass
class VecoTokenClassifierOutput(TokenClassifierOutput):
    """transformers' output and, plugged in, the logits of the paired sequences."""

    pair_logits: Tensor | None = None


@dataclass
class VecoMultipleChoiceOutput(MultipleChoiceModelOutput):
    """transformers' output and, plugged in, the logits of the paired sequences."""

    pair_logits: Tensor | None = None


@dataclass
class VecoQuestionAnsweringOutput(QuestionAnsweringModelOutput):
    """transformers' output and, plugged in, the logits of the paired sequences."""

    pair_start_logits: Tensor | None = None
    pair_end_logits: Tensor | None = None
