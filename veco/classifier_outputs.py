"""The outputs of the models that classify: transformers' own and, plugged in, what pairs add.

These are the logits of the paired sequences y and, if requested, each layer's weights of x on y (B, H, X, Y).
"""

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
    """transformers' output, and what pairs add."""

    pair_logits: Tensor | None = None
    cross_attentions: tuple[Tensor, ...] | None = None


@dataclass
class VecoTokenClassifierOutput(TokenClassifierOutput):
    """transformers' output, and what pairs add."""

    pair_logits: Tensor | None = None
    cross_attentions: tuple[Tensor, ...] | None = None


@dataclass
class VecoMultipleChoiceOutput(MultipleChoiceModelOutput):
    """transformers' output, and what pairs add."""

    pair_logits: Tensor | None = None
    cross_attentions: tuple[Tensor, ...] | None = None


@dataclass
class VecoQuestionAnsweringOutput(QuestionAnsweringModelOutput):
    """transformers' output, and what pairs add."""

    pair_start_logits: Tensor | None = None
    pair_end_logits: Tensor | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
