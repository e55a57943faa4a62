"""VecoForPreTraining: the four CA-MLM terms of eq. 1 and TLM, with the stop-gradient in plain sight."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad
from transformers.utils import ModelOutput

from veco.config import VecoConfig
from veco.heads import VecoLMHead, VecoWithLMHead
from veco.model import VecoModel

IGNORED = -100


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

        Two sweeps through the layers serve x and y (H, then S, both sequences in one batch); TLM takes a third. The
        vocabulary is projected once, on predicted positions only.
        """
        x_y_ids, x_y_mask, x_y_labels = stack_pair(
            (input_ids, attention_mask, labels),
            (pair_input_ids, pair_attention_mask, pair_labels),
            pad_token_id=self.config.pad_position,
        )
        h_x_y = self.veco(x_y_ids, x_y_mask).last_hidden_state
        # Keys and values of x are the last H of y and the other way round, behind a stop-gradient (section 2.2):
        # no S loss reaches the H path of the other sequence.
        h_y_x = swap_pair(h_x_y).detach()
        s_x_y = self.veco(x_y_ids, x_y_mask, h_y_x, swap_pair(x_y_mask)).last_hidden_state

        states, targets = [h_x_y, s_x_y], [x_y_labels, x_y_labels]
        if tlm_input_ids is not None:
            assert tlm_labels is not None, "tlm_input_ids come with tlm_labels"
            states.append(self.veco(tlm_input_ids, tlm_attention_mask).last_hidden_state)
            targets.append(tlm_labels)
        sums = self._cross_entropy_sums(states, targets)

        num_x, num_y = labels.ne(IGNORED).sum(), pair_labels.ne(IGNORED).sum()
        num_tlm = num_x if tlm_labels is None else tlm_labels.ne(IGNORED).sum()
        counts = torch.stack([num_x, num_y, num_tlm]) if num_items_in_batch is None else num_items_in_batch
        n_x, n_y, n_tlm = counts.clamp(min=1).float()

        batch_size = len(input_ids)
        losses = {
            "mlm": sums[0][:batch_size].sum() / n_x + sums[0][batch_size:].sum() / n_y,
            "ca_mlm": sums[1][:batch_size].sum() / n_x + sums[1][batch_size:].sum() / n_y,
        }
        if tlm_labels is not None:
            losses["tlm"] = sums[2].sum() / n_tlm
        return VecoForPreTrainingOutput(loss=torch.stack(list(losses.values())).sum(), losses=losses)

    def _cross_entropy_sums(self, states: list[Tensor], labels: list[Tensor]) -> list[Tensor]:
        """For each (states (B, T, D), labels (B, T)) the float32 cross-entropy of each sequence, (B,).

        All predicted positions go through the head in one call: XLM-R's 250,002 logits of every position would
        take more memory than the layers.
        """
        is_predicted = [label.ne(IGNORED) for label in labels]
        picked = torch.cat([state[keep] for state, keep in zip(states, is_predicted, strict=True)])
        targets = torch.cat([label[keep] for label, keep in zip(labels, is_predicted, strict=True)])
        losses = cross_entropy(self.lm_head(picked).float(), targets, reduction="none")
        sizes = [int(keep.sum()) for keep in is_predicted]
        sums = []
        for part, keep in zip(losses.split(sizes), is_predicted, strict=True):
            row_of_part = keep.nonzero()[:, 0]
            sums.append(part.new_zeros(len(keep)).index_add(0, row_of_part, part))
        return sums


def stack_pair(
    x: tuple[Tensor, Tensor, Tensor], y: tuple[Tensor, Tensor, Tensor], pad_token_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(ids, mask, labels) of x (B, X) over those of y (B, Y), padded to (2B, max(X, Y))."""
    length = max(x[0].shape[1], y[0].shape[1])
    fillers = (pad_token_id, 0, IGNORED)
    ids, mask, labels = (
        torch.cat([pad(part, (0, length - part.shape[1]), value=filler) for part in (of_x, of_y)])
        for of_x, of_y, filler in zip(x, y, fillers, strict=True)
    )
    return ids, mask, labels


def swap_pair(x_over_y: Tensor) -> Tensor:
    """y over x from x over y, (2B, ...)."""
    return x_over_y.roll(len(x_over_y) // 2, dims=0)
