"""VecoForPreTraining: the four CA-MLM terms of eq. 1 and TLM.

It also trains the objectives that VECO is compared with: masked language modelling alone (with TLM: XLM's) and causal
language modelling, both through path H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.utils import ModelOutput, can_return_tuple

from veco.attention import PackedMask
from veco.config import VecoConfig
from veco.labels import IGNORED, check_labels
from veco.masked_lm import VecoLMHead, VecoWithLMHead
from veco.model import VecoModel, check_input_ids, check_mask, position_ids_of

OBJECTIVES = ("ca_mlm", "mlm", "clm")


@dataclass
class VecoForPreTrainingOutput(ModelOutput):
    """`loss` is the sum of `losses`: {"mlm": H_x + H_y, "ca_mlm": S_x + S_y, "tlm": concatenation, if any}.

    `row_totals` has for each of these terms, float32 (B, 3) without gradient, every pair's sum of cross-entropies,
    number of predicted tokens and number of right predictions.
    """

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    row_totals: dict[str, Tensor] | None = None


class PackedPart(NamedTuple):
    """x, y or their concatenation among packed tokens.

    `lengths` are those of its sequences. `predicted`, `rows` and `targets`, int64 (number of predicted tokens,), say
    where each predicted token stands among all packed ones, in which row of the batch, and which piece it is.
    `num_items`, a float32 scalar, divides the sum of their cross-entropies.
    """

    lengths: list[int]
    predicted: Tensor
    rows: Tensor
    targets: Tensor
    num_items: Tensor


class Term(NamedTuple):
    """Cross-entropy that predicts `part`, added to the loss of that name."""

    loss_name: str
    part: PackedPart


class VecoForPreTraining(VecoWithLMHead):
    """Cross-attention masked language modelling (CA-MLM), VECO (ACL 2021), eq. 1, plus TLM on bilingual batches."""

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.veco = VecoModel(config)
        self.lm_head = VecoLMHead(config)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        pair_input_ids: Tensor,
        pair_attention_mask: Tensor,
        pair_labels: Tensor,
        tlm_input_ids: Tensor | None = None,
        tlm_attention_mask: Tensor | None = None,
        tlm_labels: Tensor | None = None,
        num_items_in_batch: Tensor | None = None,
        objective: str = "ca_mlm",
    ) -> VecoForPreTrainingOutput:
        """Losses of a batch of pairs: x is `input_ids` (B, X), y is `pair_input_ids` (B, Y), both already masked.

        Each of the cross-entropies P(x|x^), P(y|y^), P(x|y^,x^), P(y|x^,y^) and TLM is a float32 sum over its
        predicted positions (`labels` not -100) divided by their number: that of this batch, or that of the global batch
        if `num_items_in_batch` (3,) gives it for x, y and TLM. The latter makes a sum over ranks and accumulation
        steps the exact mean. A batch without a predicted token counts as zero, not as NaN.

        Two sweeps through the layers compute it all, over packed tokens: H of x, y and TLM, then S of x and y. Both
        start from the same embedded tokens. The vocabulary is projected once, at predicted positions only.

        Objective "mlm" skips the S sweep and its losses. "clm" also hides later tokens: `labels` are then the next
        tokens, and the loss is called "clm".
        """
        if objective not in OBJECTIVES:
            raise ValueError(f"objective {objective!r}: expected one of {', '.join(OBJECTIVES)}")
        if len(input_ids) != len(pair_input_ids):
            raise ValueError(
                f"expected one paired sequence for each sequence, found {len(pair_input_ids)} for {len(input_ids)}"
            )
        batch = {
            "": (input_ids, attention_mask, labels),
            "pair_": (pair_input_ids, pair_attention_mask, pair_labels),
        }
        if tlm_input_ids is not None:
            if tlm_attention_mask is None or tlm_labels is None:
                raise ValueError("found tlm_input_ids alone, expected tlm_attention_mask and tlm_labels too")
            batch["tlm_"] = (tlm_input_ids, tlm_attention_mask, tlm_labels)
        embedded, parts = self._packed(batch, num_items_in_batch)
        x, y, *tlm = parts

        lengths = [length for part in parts for length in part.lengths]
        (h,) = self.veco.sweep(embedded, PackedMask(lengths, lengths, is_causal=objective == "clm"))
        of_h = "clm" if objective == "clm" else "mlm"
        terms = [Term(of_h, x), Term(of_h, y), *(Term("tlm", part) for part in tlm)]
        states = [states_to_predict_from(h, terms)]
        if objective == "ca_mlm":
            s = self._plugged_in(embedded, h, x, y)
            terms_of_s = [Term("ca_mlm", x), Term("ca_mlm", y)]
            states.append(states_to_predict_from(s, terms_of_s))
            terms += terms_of_s
        targets = torch.cat([term.part.targets for term in terms])
        cross_entropies, is_right = self.lm_head(torch.cat(states), targets)
        return added_up(terms, cross_entropies, is_right, num_rows=len(input_ids))

    def _plugged_in(self, embedded: Tensor, h: Tensor, x: PackedPart, y: PackedPart) -> Tensor:
        """S (N, D) of the tokens of x and y, which are the first among the embedded ones and in H."""
        x_y_lengths, y_x_lengths = [*x.lengths, *y.lengths], [*y.lengths, *x.lengths]
        num_x, num_x_y = sum(x.lengths), sum(x_y_lengths)
        # Keys and values of x are the last H of y and vice versa, behind a stop-gradient (section 2.2):
        # no S loss reaches the H path of the other sequence.
        h_y_x = torch.cat([h[num_x:num_x_y], h[:num_x]]).detach()
        mask, pair_mask = PackedMask(x_y_lengths, x_y_lengths), PackedMask(x_y_lengths, y_x_lengths)
        (s,) = self.veco.sweep(embedded[:num_x_y], mask, h_y_x, pair_mask)
        return s

    def _packed(
        self, batch: dict[str, tuple[Tensor, Tensor, Tensor]], num_items_in_batch: Tensor | None
    ) -> tuple[Tensor, list[PackedPart]]:
        """The embedded tokens (N, D) of all sequences of a batch, one after the other, and its parts.

        `batch` has (ids, mask, labels), each (B, T_i), of each part under the prefix of their names. Raises ValueError
        as `VecoModel` and `check_labels` do.
        """
        config = self.config
        ids, positions, parts = [], [], []
        start = 0
        for number, (prefix, (input_ids, attention_mask, labels)) in enumerate(batch.items()):
            check_input_ids(input_ids, config)
            check_mask(f"{prefix}attention_mask", attention_mask, input_ids.shape)
            check_labels(f"{prefix}labels", labels, input_ids.shape, config.vocab_size)
            is_token = attention_mask.bool()
            ids.append(input_ids[is_token])
            positions.append(position_ids_of(input_ids, config.pad_token_id, config.pad_position)[is_token])
            packed_labels = labels[is_token]
            predicted = packed_labels.ne(IGNORED).nonzero().squeeze(1)
            num_items = (
                predicted.new_tensor(len(predicted)) if num_items_in_batch is None else num_items_in_batch[number]
            )
            parts.append(
                PackedPart(
                    lengths=is_token.sum(1).tolist(),
                    predicted=start + predicted,
                    rows=is_token.nonzero()[:, 0].index_select(0, predicted),
                    targets=packed_labels.index_select(0, predicted),
                    num_items=num_items.clamp(min=1).float(),
                )
            )
            start += len(packed_labels)
        return self.veco.embeddings(torch.cat(ids), torch.cat(positions)), parts


def states_to_predict_from(states: Tensor, terms: list[Term]) -> Tensor:
    """Of packed states (N, D) those of the tokens that the terms predict, one term after the other."""
    return states.index_select(0, torch.cat([term.part.predicted for term in terms]))


def added_up(terms: list[Term], cross_entropies: Tensor, is_right: Tensor, num_rows: int) -> VecoForPreTrainingOutput:
    """Losses of cross-entropies (N,), and totals of each row, from all terms' predicted tokens in order."""
    counts = [len(term.part.targets) for term in terms]
    facts_N3 = torch.stack([cross_entropies.detach(), torch.ones_like(cross_entropies), is_right.float()], dim=1)
    losses: dict[str, Tensor] = {}
    row_totals = {term.loss_name: facts_N3.new_zeros(num_rows, 3) for term in terms}
    for (name, part), of_term, facts in zip(terms, cross_entropies.split(counts), facts_N3.split(counts), strict=True):
        losses[name] = of_term.sum() / part.num_items + losses.get(name, 0.0)
        row_totals[name].index_add_(0, part.rows, facts)
    loss = torch.stack(list(losses.values())).sum()
    return VecoForPreTrainingOutput(loss=loss, losses=losses, row_totals=row_totals)
