"""Models that classify sequences and tokens or find answers: XLM-R's heads, plugged out or plugged in.

Plugged out, a head sees H of the sequence, and the model is XLM-R. Plugged in (`config.plug_in`), the model takes a
pair (x, y), and the head sees [H ; S]: of x for the label of x, of y for that of y (VECO, ACL 2021, section 3.1).

The gradient flows into the paired sequence's H here. The stop-gradient of section 2.2 belongs to pre-training (eq. 12
and 13), section 3 mentions none, and it would save no time: both H are trained through [H ; S] anyway.

transformers' `Trainer` reports an evaluation loss only if a batch has every argument with "label" in its name. So the
labels of y are called `pair_targets`: a plugged-out model never gets them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.utils import can_return_tuple

from veco.classifier_outputs import (
    VecoMultipleChoiceOutput,
    VecoQuestionAnsweringOutput,
    VecoSequenceClassifierOutput,
    VecoTokenClassifierOutput,
)
from veco.config import VecoConfig
from veco.labels import Labelled, mean_cross_entropy, positions_as_classes, sequence_loss
from veco.model import VecoModel, VecoPreTrainedModel, check_token_types, input_shape
from veco.pairs import encode_pair, mask_in_pair, stack_if_given, stack_pair

# Ends of error messages.
PLUGGED_IN = "but this model is plugged in and predicts from pairs: pass one, or build the model with plug_in=False"
PLUGGED_OUT = "but this model is plugged out and takes no pair: omit it, or build the model with plug_in=True"


class Features(NamedTuple):
    """Input of the heads: states (B, X, W) of x and, plugged in, (B, Y, W) of y; W is D, or 2D plugged in.

    `hidden_states`, if requested, are those of x: the embeddings and each layer's output, the last being `x`. Attention
    weights are those of H plugged out; plugged in of S of x, whose weights on y are `cross_attentions` (B, H, X, Y).
    """

    x: Tensor
    y: Tensor | None
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None
    cross_attentions: tuple[Tensor, ...] | None = None

    @property
    def sides(self) -> list[Tensor]:
        """The features of x, and plugged in those of y."""
        return [self.x] if self.y is None else [self.x, self.y]


class VecoClassifier(VecoPreTrainedModel):
    """Base of the models in this file: an encoder, plugged in or out, and the features that it computes."""

    # A plugged-out model ignores the cross-attention of a pre-training checkpoint.
    _keys_to_ignore_on_load_unexpected = [r"\.cross_attention"]

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.veco = VecoModel(config, has_cross_attention=config.plug_in)

    def features(
        self,
        pair_input_ids: Tensor | None,
        pair_attention_mask: Tensor | None,
        pair_inputs_embeds: Tensor | None = None,
        **of_x: Any,
    ) -> Features:
        """Features of x, given by the arguments of `VecoModel`, and plugged in also of y, `pair_input_ids` (B, Y).

        Plugged in, two sweeps through the layers serve both; `inputs_embeds` (B, X, D) and `pair_inputs_embeds`
        (B, Y, D) may replace the ids of both. Raises ValueError for a missing or an unexpected pair, for a mask whose
        shape is not its sequence's, and plugged in for ids of one sequence alone, and for positions.
        """
        if not self.config.plug_in:
            if any(given is not None for given in (pair_input_ids, pair_attention_mask, pair_inputs_embeds)):
                raise ValueError(f"found a pair, {PLUGGED_OUT}")
            encoded = self.veco(**of_x, return_dict=True)
            return Features(encoded.last_hidden_state, None, encoded.hidden_states, encoded.attentions)
        if pair_input_ids is None and pair_inputs_embeds is None:
            raise ValueError(f"found no pair_input_ids, {PLUGGED_IN}")
        input_ids, inputs_embeds = of_x["input_ids"], of_x["inputs_embeds"]
        if (input_ids is None) != (pair_input_ids is None) or of_x["position_ids"] is not None:
            raise ValueError(
                "a plugged-in model takes ids of both sequences, or embeddings of both, and computes their positions "
                "itself"
            )
        check_token_types(of_x["token_type_ids"])
        shapes = input_shape(input_ids, inputs_embeds), input_shape(pair_input_ids, pair_inputs_embeds)
        pad = self.config.pad_token_id
        x_mask = mask_in_pair("attention_mask", of_x["attention_mask"], input_ids, shapes[0], pad)
        y_mask = mask_in_pair("pair_attention_mask", pair_attention_mask, pair_input_ids, shapes[1], pad)
        h, s = encode_pair(
            self.veco,
            stack_if_given(input_ids, pair_input_ids, filler=self.config.filler_id),
            stack_pair(x_mask, y_mask, filler=False),
            stop_gradient=False,
            inputs_embeds=stack_if_given(inputs_embeds, pair_inputs_embeds, filler=0),
            output_hidden_states=of_x["output_hidden_states"],
            output_attentions=of_x["output_attentions"],
        )
        (num_pairs, x_length), (_, y_length) = shapes
        x_over_y = torch.cat([h.last_hidden_state, s.last_hidden_state], dim=-1)
        hidden_states = attentions = cross_attentions = None
        if h.hidden_states is not None:
            hidden_states = tuple(
                torch.cat(layer, dim=-1)[:num_pairs, :x_length]
                for layer in zip(h.hidden_states, s.hidden_states, strict=True)
            )
        if s.attentions is not None:
            attentions = tuple(weights[:num_pairs, :, :x_length, :x_length] for weights in s.attentions)
            cross_attentions = tuple(weights[:num_pairs, :, :x_length, :y_length] for weights in s.cross_attentions)
        x, y = x_over_y[:num_pairs, :x_length], x_over_y[num_pairs:, :y_length]
        return Features(x, y, hidden_states, attentions, cross_attentions)


class VecoLabeller(VecoClassifier):
    """Base of the models that predict labels of whole sequences or of tokens: one forward pass, two kinds of logits."""

    output_class: type[VecoSequenceClassifierOutput] | type[VecoTokenClassifierOutput]

    def logits_of(self, states: Tensor) -> Tensor:
        """Logits of one sequence of a pair from its features (B, T, W)."""
        raise NotImplementedError

    def loss_of(self, labelled: list[Labelled]) -> Tensor:
        """Mean loss over all labels."""
        raise NotImplementedError

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
        pair_inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> VecoSequenceClassifierOutput | VecoTokenClassifierOutput:
        """`logits` of x, plugged in `pair_logits` of y, and the mean `loss` over the labels given for both.

        The class says which shapes they have.
        """
        features = self.features(
            pair_input_ids,
            pair_attention_mask,
            pair_inputs_embeds,
            input_ids=input_ids,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        logits = [self.logits_of(states) for states in features.sides]
        labelled = with_labels(logits, labels=labels, pair_targets=pair_targets)
        return self.output_class(
            loss=self.loss_of(labelled) if labelled else None,
            logits=logits[0],
            pair_logits=logits[1] if self.config.plug_in else None,
            hidden_states=features.hidden_states,
            attentions=features.attentions,
            cross_attentions=features.cross_attentions,
        )


class VecoForSequenceClassification(VecoLabeller):
    """One class, several classes or C numbers for each sequence: `config.problem_type` and `config.num_labels` (C).

    Logits are (B, C). Labels are classes (B,); for several classes and for numbers (B, C), or (B,) if C is 1. `loss` is
    the mean cross-entropy, binary cross-entropy or squared error. As in transformers, a `problem_type` of None is set
    by the first labels: "regression" if C is 1, else "single_label_classification" for integers and
    "multi_label_classification" for floating-point labels.
    """

    output_class = VecoSequenceClassifierOutput

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.classifier = VecoSequenceHead(config, config.num_labels)
        self.post_init()

    def logits_of(self, states: Tensor) -> Tensor:
        return self.classifier(states)

    def loss_of(self, labelled: list[Labelled]) -> Tensor:
        return sequence_loss(labelled, self.config)


class VecoForTokenClassification(VecoLabeller):
    """One of `config.num_labels` (C) classes for each token.

    Logits are (B, X, C) and (B, Y, C). Labels are (B, X) and (B, Y), -100 for a token without one; `loss` is the mean
    cross-entropy.
    """

    output_class = VecoTokenClassifierOutput

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(head_dropout(config))
        self.classifier = nn.Linear(feature_width(config), config.num_labels)
        self.post_init()

    def logits_of(self, states: Tensor) -> Tensor:
        return self.classifier(self.dropout(states))

    def loss_of(self, labelled: list[Labelled]) -> Tensor:
        return mean_cross_entropy(labelled)


class VecoForMultipleChoice(VecoClassifier):
    """The right one among several sequences, such as a question with each of its answers."""

    def __init__(self, config: VecoConfig) -> None:
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
        pair_input_ids: Tensor | None = None,
        pair_attention_mask: Tensor | None = None,
        pair_targets: Tensor | None = None,
        pair_inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> VecoMultipleChoiceOutput:
        """`logits` (B, C) of C choices, plugged in `pair_logits` (B, C) of those of y, and the mean `loss` of both.

        Ids, masks and positions are (B, C, T), embeddings (B, C, T, D); those of y (B, C, Y), choice by choice. Labels
        (B,) are the numbers of the right choices; `loss` is the mean cross-entropy.
        """
        shape = input_shape(input_ids, inputs_embeds)
        if len(shape) != 3:
            raise ValueError(f"inputs have shape {tuple(shape)}, expected (sequences, choices, tokens)")
        if pair_input_ids is not None and pair_input_ids.shape[:2] != shape[:2]:
            raise ValueError(
                f"pair_input_ids have shape {tuple(pair_input_ids.shape)}, expected {tuple(shape[:2])} first"
            )

        def flat(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.flatten(0, 1)

        features = self.features(
            flat(pair_input_ids),
            flat(pair_attention_mask),
            flat(pair_inputs_embeds),
            input_ids=flat(input_ids),
            attention_mask=flat(attention_mask),
            token_type_ids=flat(token_type_ids),
            position_ids=flat(position_ids),
            inputs_embeds=flat(inputs_embeds),
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        logits = [self.classifier(states).view(shape[:2]) for states in features.sides]
        labelled = with_labels(logits, labels=labels, pair_targets=pair_targets)
        return VecoMultipleChoiceOutput(
            loss=mean_cross_entropy(labelled) if labelled else None,
            logits=logits[0],
            pair_logits=logits[1] if self.config.plug_in else None,
            hidden_states=features.hidden_states,
            attentions=features.attentions,
            cross_attentions=features.cross_attentions,
        )


class VecoForQuestionAnswering(VecoClassifier):
    """The first and the last token of the answer that a sequence contains."""

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
        pair_inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> VecoQuestionAnsweringOutput:
        """`start_logits`, `end_logits` (B, X) of x, plugged in `pair_…_logits` (B, Y) of y, and `loss` of the answers.

        Positions (B,) count from 0. As in transformers, one beyond the sequence is ignored (the answer was cut off),
        and a negative one means 0. `loss` is the mean of two cross-entropies, of first and of last tokens, each over
        all answers in x and y.
        """
        features = self.features(
            pair_input_ids,
            pair_attention_mask,
            pair_inputs_embeds,
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
            raise ValueError("expected both start_positions and end_positions of a sequence, found only one of them")
        loss = None
        if answers_start:
            first, last = (mean_cross_entropy(positions_as_classes(side)) for side in (answers_start, answers_end))
            loss = (first + last) / 2
        return VecoQuestionAnsweringOutput(
            loss=loss,
            start_logits=starts[0],
            end_logits=ends[0],
            pair_start_logits=starts[1] if self.config.plug_in else None,
            pair_end_logits=ends[1] if self.config.plug_in else None,
            hidden_states=features.hidden_states,
            attentions=features.attentions,
            cross_attentions=features.cross_attentions,
        )


class VecoSequenceHead(nn.Module):
    """XLM-R's head for sequences: dropout, dense, tanh, dropout and projection of the first token's state."""

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
    """`classifier_dropout`, or the dropout of the layers if that is None."""
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


def with_labels(logits: list[Tensor], **labels: Tensor | None) -> list[Labelled]:
    """The logits that have labels, x before y. Raises ValueError for labels of y without a pair."""
    labelled = []
    for index, (name, given) in enumerate(labels.items()):
        if given is not None and index == len(logits):
            raise ValueError(f"found {name}, {PLUGGED_OUT}")
        if given is not None:
            labelled.append(Labelled(name, logits[index], given))
    return labelled
