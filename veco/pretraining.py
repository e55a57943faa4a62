"""VecoForPreTraining: the four CA-MLM terms of eq. 1 and TLM.

It also trains the objectives that VECO is compared with: masked language modelling alone (with TLM: XLM's) and causal
language modelling, both through path H.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.utils import ModelOutput, can_return_tuple

from veco.attention import PackedEnds, PackedMask
from veco.config import VecoConfig
from veco.labels import check_labels
from veco.masked_lm import VecoLMHead, VecoWithLMHead
from veco.model import VecoModel, check_input_ids, check_mask
from veco.packing import PackedPairs

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


X, Y, TLM = range(3)  # parts of a batch


class Term(NamedTuple):
    """Cross-entropy that predicts a part of the batch, by its number; added to the loss of that name."""

    loss_name: str
    part: int


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
        packed: PackedPairs | None = None,
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

        `packed` says where the tokens of these very tensors stand, as a loader can tell on the CPU. Without it they are
        looked for here, and the host waits for an accelerator to find them.
        """
        if objective not in OBJECTIVES:
            raise ValueError(f"objective {objective!r}: expected one of {', '.join(OBJECTIVES)}")
        if len(input_ids) != len(pair_input_ids):
            raise ValueError(
                f"expected one paired sequence for each sequence, found {len(pair_input_ids)} for {len(input_ids)}"
            )
        parts = [(input_ids, attention_mask, labels), (pair_input_ids, pair_attention_mask, pair_labels)]
        if tlm_input_ids is not None:
            if tlm_attention_mask is None or tlm_labels is None:
                raise ValueError("found tlm_input_ids alone, expected tlm_attention_mask and tlm_labels too")
            parts.append((tlm_input_ids, tlm_attention_mask, tlm_labels))
        self._check(parts)
        if packed is None:
            packed = PackedPairs.of(parts, self.config.pad_token_id)
        packed.check_fits([ids.shape for ids, _, _ in parts])
        ids, _, labels_of_parts = zip(*parts, strict=True)
        embedded = self.veco.embeddings(packed.pick(ids), packed.positions + self.config.pad_position)
        targets_of_parts = packed.pick(labels_of_parts).index_select(0, packed.predicted)

        lengths = [length for of_part in packed.lengths for length in of_part]
        mask = PackedMask(lengths, lengths, objective == "clm", PackedEnds(packed.starts, packed.starts))
        (h,) = self.veco.sweep(embedded, mask)
        of_h = "clm" if objective == "clm" else "mlm"
        terms = [Term(of_h, X), Term(of_h, Y), Term("tlm", TLM)][: len(parts)]
        states, targets = [h.index_select(0, packed.predicted)], [targets_of_parts]
        if objective == "ca_mlm":
            num_predicted = sum(packed.num_predicted[: Y + 1])
            s = self._plugged_in(embedded, h, packed)
            states.append(s.index_select(0, packed.predicted[:num_predicted]))
            targets.append(targets_of_parts[:num_predicted])
            terms += [Term("ca_mlm", X), Term("ca_mlm", Y)]
        cross_entropies, is_right = self.lm_head(torch.cat(states), torch.cat(targets))
        return added_up(terms, packed, num_items_in_batch, cross_entropies, is_right)

    def _plugged_in(self, embedded: Tensor, h: Tensor, packed: PackedPairs) -> Tensor:
        """S (N, D) of the tokens of x and y, which are the first among the embedded ones and in H."""
        x, y = packed.lengths[: Y + 1]
        num_x, num_x_y = sum(x), sum(x + y)
        # Keys and values of x are the last H of y and vice versa, behind a stop-gradient (section 2.2):
        # no S loss reaches the H path of the other sequence.
        h_y_x = torch.cat([h[num_x:num_x_y], h[:num_x]]).detach()
        starts = packed.starts[: len(x + y) + 1]
        mask = PackedMask(x + y, x + y, ends=PackedEnds(starts, starts))
        pair_mask = PackedMask(x + y, y + x, ends=PackedEnds(starts, packed.pair_starts))
        (s,) = self.veco.sweep(embedded[:num_x_y], mask, h_y_x, pair_mask)
        return s

    def _check(self, parts: Sequence[tuple[Tensor, Tensor, Tensor]]) -> None:
        """Raise ValueError as `VecoModel` and `check_labels` do, for each part's (ids, mask, labels), (B, T_i)."""
        for prefix, (input_ids, attention_mask, labels) in zip(("", "pair_", "tlm_"), parts, strict=False):
            check_input_ids(input_ids, self.config)
            check_mask(f"{prefix}attention_mask", attention_mask, input_ids.shape)
            check_labels(f"{prefix}labels", labels, input_ids.shape, self.config.vocab_size)


def added_up(
    terms: Sequence[Term],
    packed: PackedPairs,
    num_items_in_batch: Tensor | None,
    cross_entropies: Tensor,
    is_right: Tensor,
) -> VecoForPreTrainingOutput:
    """Losses of cross-entropies (P,), and totals of each row, from all terms' predicted tokens in order."""
    counts = [packed.num_predicted[term.part] for term in terms]
    if num_items_in_batch is None:
        num_items = [cross_entropies.new_tensor(float(max(1, count))) for count in packed.num_predicted]
    else:
        num_items = list(num_items_in_batch.clamp(min=1).float().unbind())
    rows = packed.rows.split(packed.num_predicted)
    facts_P3 = torch.stack([cross_entropies.detach(), torch.ones_like(cross_entropies), is_right.float()], dim=1)
    losses: dict[str, Tensor] = {}
    row_totals = {term.loss_name: facts_P3.new_zeros(len(packed.lengths[X]), 3) for term in terms}
    for (name, part), of_term, facts in zip(terms, cross_entropies.split(counts), facts_P3.split(counts), strict=True):
        losses[name] = of_term.sum() / num_items[part] + losses.get(name, 0.0)
        row_totals[name].index_add_(0, rows[part], facts)
    loss = torch.stack(list(losses.values())).sum()
    return VecoForPreTrainingOutput(loss=loss, losses=losses, row_totals=row_totals)
