"""VecoForPreTraining: the four CA-MLM terms of eq. 1 and TLM, with the stop-gradient in plain sight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from veco.attention import PackedMask
from veco.config import VecoConfig
from veco.heads import IGNORED, VecoLMHead, VecoWithLMHead
from veco.model import VecoModel, check_input_ids, check_mask, position_ids_of


@dataclass
class VecoForPreTrainingOutput(ModelOutput):
    """`loss` is the sum of `losses`: {"mlm": H_x + H_y, "ca_mlm": S_x + S_y, "tlm": concatenation, if any}."""

    loss: Tensor | None = None
    losses: dict[str, Tensor] | None = None


class VecoForPreTraining(VecoWithLMHead):
    """Cross-attention masked language modelling (CA-MLM), VECO (ACL 2021), eq. 1, plus TLM on bilingual batches."""

    def __init__(self, config: VecoConfig) -> None:
        super().__init__(config)
        self.veco = VecoModel(config)
        self.lm_head = VecoLMHead(config)
        self.post_init()

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
    ) -> VecoForPreTrainingOutput:
        """Losses of a batch of pairs: x is `input_ids` (B, X), y is `pair_input_ids` (B, Y), both already masked.

        Each of the cross-entropies P(x|x^), P(y|y^), P(x|y^,x^), P(y|x^,y^) and TLM is a float32 sum over its
        predicted positions (`labels` not -100) divided by their number: this batch's own, or that of the global batch
        when `num_items_in_batch` (3,) gives it for x, y and TLM. The latter makes a sum over ranks and accumulation
        steps the exact mean, and a batch without a predicted token counts as zero, not as NaN.

        Two sweeps through the layers serve it all, over packed tokens: H of x, y and TLM, then S of x and y. Both
        start from the same embedded tokens. The vocabulary is projected once, on predicted positions only.
        """
        if len(input_ids) != len(pair_input_ids):
            raise ValueError(
                f"expected one paired sequence for each sequence, found {len(pair_input_ids)} for {len(input_ids)}"
            )
        parts = {
            "": (input_ids, attention_mask, labels),
            "pair_": (pair_input_ids, pair_attention_mask, pair_labels),
        }
        if tlm_input_ids is not None:
            assert tlm_attention_mask is not None and tlm_labels is not None, "TLM comes with its mask and labels"
            parts["tlm_"] = (tlm_input_ids, tlm_attention_mask, tlm_labels)
        embedded, targets, lengths = self._packed(parts)
        all_lengths = [length for part in lengths for length in part]
        (h,) = self.veco.sweep(embedded, PackedMask(all_lengths, all_lengths))

        x_lengths, y_lengths = lengths[:2]
        x_y_lengths, y_x_lengths = [*x_lengths, *y_lengths], [*y_lengths, *x_lengths]
        num_x, num_x_y = sum(x_lengths), sum(x_y_lengths)
        # Keys and values of x are the last H of y and the other way round, behind a stop-gradient (section 2.2):
        # no S loss reaches the H path of the other sequence.
        h_y_x = torch.cat([h[num_x:num_x_y], h[:num_x]]).detach()
        mask, pair_mask = PackedMask(x_y_lengths, x_y_lengths), PackedMask(x_y_lengths, y_x_lengths)
        (s,) = self.veco.sweep(embedded[:num_x_y], mask, h_y_x, pair_mask)

        # In this order: P(x|x^), P(y|y^), TLM if any, P(x|y^,x^), P(y|x^,y^).
        all_targets = [*targets, *targets[:2]]
        is_predicted = [part.ne(IGNORED) for part in all_targets]
        counts = [int(part.sum()) for part in is_predicted]
        h_chosen, s_chosen = torch.cat(is_predicted[:-2]).nonzero(), torch.cat(is_predicted[-2:]).nonzero()
        cross_entropies = self.lm_head(
            torch.cat([h.index_select(0, h_chosen.squeeze(1)), s.index_select(0, s_chosen.squeeze(1))]),
            torch.cat(all_targets)[torch.cat(is_predicted)],
        )
        sums = [part.sum() for part in cross_entropies.split(counts)]
        if num_items_in_batch is None:
            num_items_in_batch = torch.tensor(counts[:3], device=h.device)
        n = num_items_in_batch.clamp(min=1).float()
        losses = {"mlm": sums[0] / n[0] + sums[1] / n[1], "ca_mlm": sums[-2] / n[0] + sums[-1] / n[1]}
        if tlm_input_ids is not None:
            losses["tlm"] = sums[2] / n[2]
        return VecoForPreTrainingOutput(loss=torch.stack(list(losses.values())).sum(), losses=losses)

    def _packed(self, parts: dict[str, tuple[Tensor, Tensor, Tensor]]) -> tuple[Tensor, list[Tensor], list[list[int]]]:
        """(embedded tokens of all parts (N, D), of each part its labels (N_i,), of each part its sequences' lengths).

        A part is (ids, mask, labels), each (B, T_i), under the prefix of their names. Raises ValueError as `VecoModel`
        does.
        """
        config = self.config
        ids, positions, targets, lengths = [], [], [], []
        for prefix, (input_ids, attention_mask, labels) in parts.items():
            check_input_ids(input_ids, config)
            check_mask(f"{prefix}attention_mask", attention_mask, input_ids.shape)
            check_mask(f"{prefix}labels", labels, input_ids.shape)
            is_token = attention_mask.bool()
            ids.append(input_ids[is_token])
            positions.append(position_ids_of(input_ids, config.pad_token_id, config.pad_position)[is_token])
            targets.append(labels[is_token])
            lengths.append(is_token.sum(1).tolist())
        return self.veco.embeddings(torch.cat(ids), torch.cat(positions)), targets, lengths
