"""VecoForPreTraining: the four CA-MLM terms of eq. 1 and TLM, with the stop-gradient in plain sight.

Beside this, the objectives that it is compared with: masked language modelling alone (with TLM: XLM's) and causal
language modelling, both through the H path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.utils import ModelOutput, can_return_tuple

from veco.attention import PackedMask
from veco.config import VecoConfig
from veco.heads import IGNORED, VecoLMHead, VecoWithLMHead, check_labels
from veco.model import VecoModel, check_input_ids, check_mask, position_ids_of

OBJECTIVES = ("ca_mlm", "mlm", "clm")


@dataclass
class VecoForPreTrainingOutput(ModelOutput):
    """`loss` is the sum of `losses`: {"mlm": H_x + H_y, "ca_mlm": S_x + S_y, "tlm": concatenation, if any}.

    `row_totals` has for each of these terms, float32 (B, 3) without gradient: sum of cross-entropies, number of
    predicted tokens and number of those that were right, of each pair.
    """

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None
    row_totals: dict[str, Tensor] | None = None


class PackedPart(NamedTuple):
    """x, y or their concatenation among packed tokens: `lengths` of its sequences, and of each predicted token the
    place among all packed ones, the row of the batch and the target, int64 (number of predicted tokens,)."""

    lengths: list[int]
    predicted: Tensor
    rows: Tensor
    targets: Tensor


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
        predicted positions (`labels` not -100) divided by their number: this batch's own, or that of the global batch
        when `num_items_in_batch` (3,) gives it for x, y and TLM. The latter makes a sum over ranks and accumulation
        steps the exact mean, and a batch without a predicted token counts as zero, not as NaN.

        Two sweeps through the layers serve it all, over packed tokens: H of x, y and TLM, then S of x and y. Both
        start from the same embedded tokens. The vocabulary is projected once, on predicted positions only.

        `objective` "mlm" leaves the S sweep and its losses out, and "clm" besides hides later tokens: then `labels` are
        the next ones, and the term is called "clm".
        """
        if objective not in OBJECTIVES:
            raise ValueError(f"objective {objective!r}: expected one of {', '.join(OBJECTIVES)}")
        if len(input_ids) != len(pair_input_ids):
            raise ValueError(
                f"expected one paired sequence for each sequence, found {len(pair_input_ids)} for {len(input_ids)}"
            )
        parts = {
            "": (input_ids, attention_mask, labels),
            "pair_": (pair_input_ids, pair_attention_mask, pair_labels),
        }
        if tlm_input_ids is not None:
            if tlm_attention_mask is None or tlm_labels is None:
                raise ValueError("found tlm_input_ids alone, expected tlm_attention_mask and tlm_labels too")
            parts["tlm_"] = (tlm_input_ids, tlm_attention_mask, tlm_labels)
        embedded, packed = self._packed(parts)
        lengths = [length for part in packed for length in part.lengths]
        (h,) = self.veco.sweep(embedded, PackedMask(lengths, lengths, is_causal=objective == "clm"))

        # The cross-entropies: of each its name and the part that it predicts, in the order of the sweeps.
        h_name = "clm" if objective == "clm" else "mlm"
        terms = [(h_name, 0), (h_name, 1), ("tlm", 2)][: len(packed)]
        states = [h.index_select(0, torch.cat([part.predicted for part in packed]))]
        if objective == "ca_mlm":
            terms += [("ca_mlm", 0), ("ca_mlm", 1)]
            s = self._plugged_in(embedded, h, *packed[:2])
            states.append(s.index_select(0, torch.cat([part.predicted for part in packed[:2]])))
        targets = torch.cat([packed[number].targets for _, number in terms])
        cross_entropies, is_right = self.lm_head(torch.cat(states), targets)

        if num_items_in_batch is None:
            num_items_in_batch = torch.tensor([len(part.targets) for part in packed], device=h.device)
        n = num_items_in_batch.clamp(min=1).float()
        facts_N3 = torch.stack([cross_entropies.detach(), torch.ones_like(cross_entropies), is_right.float()], dim=1)
        counts = [len(packed[number].targets) for _, number in terms]
        losses: dict[str, Tensor] = {}
        row_totals = {name: facts_N3.new_zeros(len(input_ids), 3) for name, _ in terms}
        for (name, number), part, facts in zip(
            terms, cross_entropies.split(counts), facts_N3.split(counts), strict=True
        ):
            losses[name] = part.sum() / n[number] + losses.get(name, 0.0)
            row_totals[name].index_add_(0, packed[number].rows, facts)
        loss = torch.stack(list(losses.values())).sum()
        return VecoForPreTrainingOutput(loss=loss, losses=losses, row_totals=row_totals)

    def _plugged_in(self, embedded: Tensor, h: Tensor, x: PackedPart, y: PackedPart) -> Tensor:
        """S (N, D) of the tokens of x and y, which come first among the embedded ones and in H."""
        x_y_lengths, y_x_lengths = [*x.lengths, *y.lengths], [*y.lengths, *x.lengths]
        num_x, num_x_y = sum(x.lengths), sum(x_y_lengths)
        # Keys and values of x are the last H of y and the other way round, behind a stop-gradient (section 2.2):
        # no S loss reaches the H path of the other sequence.
        h_y_x = torch.cat([h[num_x:num_x_y], h[:num_x]]).detach()
        mask, pair_mask = PackedMask(x_y_lengths, x_y_lengths), PackedMask(x_y_lengths, y_x_lengths)
        (s,) = self.veco.sweep(embedded[:num_x_y], mask, h_y_x, pair_mask)
        return s

    def _packed(self, parts: dict[str, tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, list[PackedPart]]:
        """The embedded tokens of all parts (N, D), one after the other, and what is known of each part.

        A part is (ids, mask, labels), each (B, T_i), under the prefix of their names. Raises ValueError as `VecoModel`
        and `check_labels` do.
        """
        config = self.config
        ids, positions, packed = [], [], []
        start = 0
        for prefix, (input_ids, attention_mask, labels) in parts.items():
            check_input_ids(input_ids, config)
            check_mask(f"{prefix}attention_mask", attention_mask, input_ids.shape)
            check_labels(f"{prefix}labels", labels, input_ids.shape, config.vocab_size)
            is_token = attention_mask.bool()
            ids.append(input_ids[is_token])
            positions.append(position_ids_of(input_ids, config.pad_token_id, config.pad_position)[is_token])
            packed_labels = labels[is_token]
            predicted = packed_labels.ne(IGNORED).nonzero().squeeze(1)
            rows = is_token.nonzero()[:, 0].index_select(0, predicted)
            targets = packed_labels.index_select(0, predicted)
            packed.append(PackedPart(is_token.sum(1).tolist(), start + predicted, rows, targets))
            start += len(packed_labels)
        return self.veco.embeddings(torch.cat(ids), torch.cat(positions)), packed
