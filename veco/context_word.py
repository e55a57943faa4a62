"""A class for a word in two contexts, such as: is it used in the same sense? Plugged out or plugged in."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.utils import can_return_tuple

from veco.classification import (
    VecoClassifier,
    VecoSequenceClassifierOutput,
    feature_width,
    head_dropout,
    with_labels,
)
from veco.config import VecoConfig
from veco.labels import mean_cross_entropy

NUM_WORDS = 2


class VecoForContextWord(VecoClassifier):
    """One of `config.num_labels` (C) classes for a word in two contexts, which stand in one sequence.

    A logistic regression on the state of the first token and those of the two words, concatenated: the baseline of
    SuperGLUE for WiC (Wang et al., NeurIPS 2019). The state of a word is the mean over its tokens.
    """

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(head_dropout(config))
        self.classifier = nn.Linear((1 + NUM_WORDS) * feature_width(config), config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        word_numbers: Tensor | None = None,
        labels: Tensor | None = None,
        pair_input_ids: Tensor | None = None,
        pair_attention_mask: Tensor | None = None,
        pair_word_numbers: Tensor | None = None,
        pair_targets: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> VecoSequenceClassifierOutput:
        """`logits` (B, C) of x, plugged in `pair_logits` (B, C) of y, and the mean cross-entropy `loss` of labels (B,).

        `word_numbers` (B, X) and `pair_word_numbers` (B, Y) are 1 and 2 on the tokens of the first and the second word,
        and 0 elsewhere.
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
        numbers = {"word_numbers": word_numbers, "pair_word_numbers": pair_word_numbers}
        logits = []
        for states, (name, own) in zip(features.sides, numbers.items(), strict=False):  # plugged out, x alone
            if own is None or own.shape != states.shape[:2]:
                found = "none" if own is None else f"shape {tuple(own.shape)}"
                raise ValueError(f"{name}: expected shape {tuple(states.shape[:2])}, found {found}")
            logits.append(self.classifier(self.dropout(states_of_words(states, own))))
        labelled = with_labels(logits, labels=labels, pair_targets=pair_targets)
        return VecoSequenceClassifierOutput(
            loss=mean_cross_entropy(labelled) if labelled else None,
            logits=logits[0],
            pair_logits=logits[1] if self.config.plug_in else None,
            hidden_states=features.hidden_states,
            attentions=features.attentions,
        )


def states_of_words(states_BTW: Tensor, word_numbers_BT: Tensor) -> Tensor:
    """(B, 3 W): the first token's state, and the mean state of each word; zeros for a word without tokens."""
    means = []
    for number in range(1, NUM_WORDS + 1):
        is_word_BT1 = word_numbers_BT.eq(number).unsqueeze(2).to(states_BTW.dtype)
        means.append((states_BTW * is_word_BT1).sum(dim=1) / is_word_BT1.sum(dim=1).clamp(min=1))
    return torch.cat([states_BTW[:, 0], *means], dim=-1)
