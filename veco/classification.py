"""Models that classify sequences, tokens and the ends of answers: XLM-R's heads, plugged out or plugged in.

Plugged out, a head sees H of the sequence, and the model is XLM-R. Plugged in (`config.plug_in`), the model is given a
pair (x, y), and the head sees [H ; S]: of x for the label of x, of y for that of y (VECO, ACL 2021, section 3.1).

The gradient flows on into the paired sequence's H here. The stop-gradient of section 2.2 belongs to pre-training
(eq. 12 and 13), section 3 names none, and there is no speed to gain by it: both H are trained through [H ; S] anyhow.

transformers' `Trainer` waits, before it reports an evaluation loss, for every argument with "label" in its name. So the
labels of y are called `pair_targets`, which a model that is plugged out never gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from transformers.modeling_outputs import (
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import can_return_tuple

from veco.config import VecoConfig
from veco.heads import IGNORED, check_labels
from veco.model import VecoModel, VecoPreTrainedModel, check_mask, check_token_types, input_shape, token_mask
from veco.pairs import encode_pair, stack_pair

LOSSES_OF_NUMBERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "regression": mse_loss,
    "multi_label_classification": binary_cross_entropy_with_logits,
}
# Ends of error messages.
PLUGGED_IN = "but this model is plugged in and predicts from pairs: give one, or make the model with plug_in=False"
PLUGGED_OUT = "but this model is plugged out, it takes no pair: leave it out, or make the model with plug_in=True"


@dataclass
class VecoSequenceClassifierOutput(SequenceClassifierOutput):
    """As transformers has it, and plugged in the logits of the paired sequences."""

    pair_logits: Tensor | None = None


@dataclass
class VecoTokenClassifierOutput(TokenClassifierOutput):
    """As transformers has it, and plugged in the logits of the paired sequences."""

    pair_logits: Tensor | None = None


@dataclass
class VecoQuestionAnsweringOutput(QuestionAnsweringModelOutput):
    """As transformers has it, and plugged in the logits of the paired sequences."""

    pair_start_logits: Tensor | None = None
    pair_end_logits: Tensor | None = None


class Features(NamedTuple):
    """What heads see: states (B, X, W) of x, and plugged in (B, Y, W) of y; W is D, or plugged in 2D.

    `hidden_states`, if asked for, are those of x: the embeddings and each layer's output, the last being `x`. Attention
    weights are of the sweep that ends in the features: of H plugged out, of S of x plugged in.
    """

    x: Tensor
    y: Tensor | None
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None

    @property
    def sides(self) -> list[Tensor]:
        return [self.x] if self.y is None else [self.x, self.y]


class Labelled(NamedTuple):
    """Logits of one side and its labels, with the name of the argument that gave them."""

    name: str
    logits: Tensor
    labels: Tensor


class VecoClassifier(VecoPreTrainedModel):
    """What the models that classify share: an encoder, plugged in or out, and the features that it gives."""

    # A model that is plugged out leaves the cross-attention of a pre-training checkpoint behind.
    _keys_to_ignore_on_load_unexpected = [r"\.cross_attention"]

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.veco = VecoModel(config, has_cross_attention=config.plug_in)

    def features(self, pair_input_ids: Tensor | None, pair_attention_mask: Tensor | None, **of_x: Any) -> Features:
        """Features of x, whose arguments are those of `VecoModel`, and plugged in of y too, `pair_input_ids` (B, Y).

        Plugged in, two sweeps through the layers serve both sides. Raises ValueError for a pair that is missing or not
        expected, for masks of another shape than their sequence, and plugged in for x without ids.
        """
        if not self.config.plug_in:
            if pair_input_ids is not None or pair_attention_mask is not None:
                raise ValueError(f"found a pair, {PLUGGED_OUT}")
            encoded = self.veco(**of_x, return_dict=True)
            return Features(encoded.last_hidden_state, None, encoded.hidden_states, encoded.attentions)
        if pair_input_ids is None:
            raise ValueError(f"found no pair_input_ids, {PLUGGED_IN}")
        input_ids, attention_mask = of_x["input_ids"], of_x["attention_mask"]
        if input_ids is None or of_x["position_ids"] is not None:
            raise ValueError(
                "a model that is plugged in takes input_ids of both sequences, and counts their positions itself"
            )
        check_token_types(of_x["token_type_ids"])
        if attention_mask is None:
            attention_mask = token_mask(input_ids, self.config.pad_token_id)
        if pair_attention_mask is None:
            pair_attention_mask = token_mask(pair_input_ids, self.config.pad_token_id)
        check_mask("attention_mask", attention_mask, input_ids.shape)
        check_mask("pair_attention_mask", pair_attention_mask, pair_input_ids.shape)
        h, s = encode_pair(
            self.veco,
            stack_pair(input_ids, pair_input_ids, filler=self.config.pad_position),
            stack_pair(attention_mask.bool(), pair_attention_mask.bool(), filler=False),
            stop_gradient=False,
            output_hidden_states=of_x["output_hidden_states"],
            output_attentions=of_x["output_attentions"],
        )
        (num_pairs, x_length), y_length = input_ids.shape, pair_input_ids.shape[1]
        x_over_y = torch.cat([h.last_hidden_state, s.last_hidden_state], dim=-1)
        hidden_states = attentions = None
        if h.hidden_states is not None:
            hidden_states = tuple(
                torch.cat(layer, dim=-1)[:num_pairs, :x_length]
                for layer in zip(h.hidden_states, s.hidden_states, strict=True)
            )
        if s.attentions is not None:
            attentions = tuple(weights[:num_pairs, :, :x_length, :x_length] for weights in s.attentions)
        x, y = x_over_y[:num_pairs, :x_length], x_over_y[num_pairs:, :y_length]
        return Features(x, y, hidden_states, attentions)


class VecoForSequenceClassification(VecoClassifier):
    """One class, several, or numbers for each sequence, by `config.problem_type` and `config.num_labels` (C)."""

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.classifier = VecoSequenceHead(config, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        pair_input_ids: Tensor | None = None,
        pair_attention_mask: Tensor | None = None,
        pair_targets: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> VecoSequenceClassifierOutput:
        """`logits` (B, C) of x, plugged in `pair_logits` (B, C) of y, and `loss` of the labels that are given.

        Labels are classes (B,), or for several classes and for numbers (B, C), with C of 1 also (B,). `loss` is the
        mean over the labels of both sides together: cross-entropy, binary cross-entropy or squared error. As in
        transformers, a `problem_type` of None is set when the first labels are seen: "regression" if C is 1, else by
        the labels' type "single_label_classification" (integers) or "multi_label_classification".
        """
        features = self.features(
            pair_input_ids,
            pair_attention_mask,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        logits = [self.classifier(states) for states in features.sides]
        labelled = with_labels(logits, labels=labels, pair_targets=pair_targets)
        return VecoSequenceClassifierOutput(
            loss=sequence_loss(labelled, self.config) if labelled else None,
            logits=logits[0],
            pair_logits=logits[1] if self.config.plug_in else None,
            hidden_states=features.hidden_states,
            attentions=features.attentions,
        )


class VecoForMultipleChoice(VecoClassifier):
    """The right one of several sequences, such as a question with each of its answers; plugged out."""

    def __init__(self, config: VecoConfig) -> None:
        if config.plug_in:
            raise ValueError("VecoForMultipleChoice takes no pairs; make it with plug_in=False")
        super().__init__(config)
        self.classifier = VecoSequenceHead(config, num_outputs=1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> MultipleChoiceModelOutput:
        """`logits` (B, C) of C choices: ids, masks and positions are (B, C, T), embeddings (B, C, T, D).

        With the number of the right choice, `labels` (B,), `loss` is the mean cross-entropy.
        """
        shape = input_shape(input_ids, inputs_embeds)
        if len(shape) != 3:
            raise ValueError(f"inputs have shape {tuple(shape)}, expected (sequences, choices, tokens)")
        flat = {
            name: None if tensor is None else tensor.flatten(0, 1)
            for name, tensor in (
                ("input_ids", input_ids),
                ("attention_mask", attention_mask),
                ("token_type_ids", token_type_ids),
                ("position_ids", position_ids),
                ("inputs_embeds", inputs_embeds),
            )
        }
        features = self.features(
            None, None, **flat, output_hidden_states=output_hidden_states, output_attentions=output_attentions
        )
        logits = self.classifier(features.x).view(shape[:2])
        return MultipleChoiceModelOutput(
            loss=None if labels is None else mean_cross_entropy([Labelled("labels", logits, labels)]),
            logits=logits,
            hidden_states=features.hidden_states,
            attentions=features.attentions,
        )


class VecoForTokenClassification(VecoClassifier):
    """One of `config.num_labels` (C) classes for each token."""

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(head_dropout(config))
        self.classifier = nn.Linear(feature_width(config), config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        pair_input_ids: Tensor | None = None,
        pair_attention_mask: Tensor | None = None,
        pair_targets: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> VecoTokenClassifierOutput:
        """`logits` (B, X, C) of x, plugged in `pair_logits` (B, Y, C) of y, and `loss` of the labels that are given.

        Labels are (B, X) and (B, Y), -100 where a token has none; `loss` is the mean cross-entropy over the labelled
        tokens of both sides together.
        """
        features = self.features(
            pair_input_ids,
            pair_attention_mask,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        logits = [self.classifier(self.dropout(states)) for states in features.sides]
        labelled = with_labels(logits, labels=labels, pair_targets=pair_targets)
        return VecoTokenClassifierOutput(
            loss=mean_cross_entropy(labelled) if labelled else None,
            logits=logits[0],
            pair_logits=logits[1] if self.config.plug_in else None,
            hidden_states=features.hidden_states,
            attentions=features.attentions,
        )


class VecoForQuestionAnswering(VecoClassifier):
    """The first and the last token of the answer that a sequence holds."""

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.qa_outputs = nn.Linear(feature_width(config), 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        pair_input_ids: Tensor | None = None,
        pair_attention_mask: Tensor | None = None,
        pair_start_positions: Tensor | None = None,
        pair_end_positions: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> VecoQuestionAnsweringOutput:
        """`start_logits`, `end_logits` (B, X) of x, plugged in `pair_…_logits` (B, Y) of y, and `loss` of the answers.

        Positions are (B,), counted from 0. As in transformers, one behind the sequence is ignored (the answer was cut
        off) and a negative one means 0. `loss` is the mean of two cross-entropies, of first and of last tokens, each
        over the answers of both sides together.
        """
        features = self.features(
            pair_input_ids,
            pair_attention_mask,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        logits = [self.qa_outputs(states) for states in features.sides]
        starts, ends = [side[..., 0] for side in logits], [side[..., 1] for side in logits]
        answers_start = with_labels(starts, start_positions=start_positions, pair_start_positions=pair_start_positions)
        answers_end = with_labels(ends, end_positions=end_positions, pair_end_positions=pair_end_positions)
        if [name.replace("start", "end") for name, _, _ in answers_start] != [name for name, _, _ in answers_end]:
            raise ValueError("expected start_positions and end_positions of the same side, found only one of them")
        loss = None
        if answers_start:
            loss = (mean_cross_entropy(_clamped(answers_start)) + mean_cross_entropy(_clamped(answers_end))) / 2
        return VecoQuestionAnsweringOutput(
            loss=loss,
            start_logits=starts[0],
            end_logits=ends[0],
            pair_start_logits=starts[1] if self.config.plug_in else None,
            pair_end_logits=ends[1] if self.config.plug_in else None,
            hidden_states=features.hidden_states,
            attentions=features.attentions,
        )


class VecoSequenceHead(nn.Module):
    """XLM-R's head for sequences: of the first token's state dropout, dense, tanh, dropout, projection."""

    def __init__(self, config: VecoConfig, num_outputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(head_dropout(config))
        self.dense = nn.Linear(feature_width(config), config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, num_outputs)

    def forward(self, states: Tensor) -> Tensor:
        """Logits (B, `num_outputs`) of states (B, T, W)."""
        hidden = torch.tanh(self.dense(self.dropout(states[:, 0])))
        return self.out_proj(self.dropout(hidden))


def feature_width(config: VecoConfig) -> int:
    """Width of H, or plugged in of [H ; S]."""
    return config.hidden_size * (2 if config.plug_in else 1)


def head_dropout(config: VecoConfig) -> float:
    """`classifier_dropout`, or where it is None the dropout of the layers."""
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


def with_labels(logits: list[Tensor], **labels: Tensor | None) -> list[Labelled]:
    """The sides that have labels, x before y. Raises ValueError for labels of a pair that is not there."""
    labelled = []
    for index, (name, given) in enumerate(labels.items()):
        if given is not None and index == len(logits):
            raise ValueError(f"found {name}, {PLUGGED_OUT}")
        if given is not None:
            labelled.append(Labelled(name, logits[index], given))
    return labelled


def mean_cross_entropy(labelled: list[Labelled]) -> Tensor:
    """Mean cross-entropy, float32, of logits (..., C) over the labels (...) of all sides that are not IGNORED.

    It is 0 where all are ignored, not NaN. Raises ValueError for labels of another shape and for unknown classes.
    """
    sums, counts = [], []
    for name, logits, labels in labelled:
        check_labels(name, labels, logits.shape[:-1], logits.shape[-1])
        flat = labels.flatten().long()
        sums.append(cross_entropy(logits.flatten(0, -2).float(), flat, ignore_index=IGNORED, reduction="sum"))
        counts.append(flat.ne(IGNORED).sum())
    return torch.stack(sums).sum() / torch.stack(counts).sum().clamp(min=1)


def sequence_loss(labelled: list[Labelled], config: VecoConfig) -> Tensor:
    """Mean loss of `VecoForSequenceClassification` over the labels of all sides; sets a `problem_type` of None."""
    if config.problem_type is None:
        numbers = labelled[0].labels.is_floating_point()
        several = "multi_label_classification" if numbers else "single_label_classification"
        config.problem_type = "regression" if config.num_labels == 1 else several
    if config.problem_type == "single_label_classification":
        return mean_cross_entropy([side._replace(labels=side.labels.flatten()) for side in labelled])
    if config.problem_type not in LOSSES_OF_NUMBERS:
        known = ", ".join(["single_label_classification", *LOSSES_OF_NUMBERS])
        raise ValueError(f"config.problem_type is {config.problem_type!r}, expected one of {known}")
    for name, logits, labels in labelled:
        if len(labels) != len(logits) or labels.numel() != logits.numel():
            raise ValueError(f"{name} have shape {tuple(labels.shape)}, expected {tuple(logits.shape)}")
    logits = torch.cat([side.logits for side in labelled]).float()
    labels = torch.cat([side.labels.view_as(side.logits) for side in labelled]).float()
    return LOSSES_OF_NUMBERS[config.problem_type](logits, labels)


def _clamped(answers: list[Labelled]) -> list[Labelled]:
    """The same with positions (B,) as classes: negative ones are 0, those behind the sequence are IGNORED."""
    result = []
    for name, logits, positions in answers:
        positions = positions.flatten()
        positions = positions.clamp(min=0).masked_fill(positions >= logits.shape[1], IGNORED)
        result.append(Labelled(name, logits, positions))
    return result
