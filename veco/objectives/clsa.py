"""Cross-lingual sentence alignment (CLSA; AMBER, Hu et al., 2021): the translation is told from all other sentences.

A sentence is the mean c of its last states. For the pairs (x_i, y_i) of a group, the loss of pair i is

    -log exp(c(x_i) . c(y_i)) / sum_{s in S, s != x_i} exp(c(x_i) . c(s))

with plain dot products, and S the sentences of the group in both languages. The paper draws a monolingual and a
parallel batch at a time, and S has the sentences of both. Our batches are of one kind, so S has those of the pairs
alone, x and y; that x_i itself is left out, and that there is no temperature, are our reading of the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from veco.objectives.objective import ItemLosses, Route
from veco.objectives.shared.pooling import groups, pooled, products
from veco.objectives.shared.sentence_pairs import SentencePairs
from veco.objectives.states import States


class SentenceAlignment(SentencePairs):
    """AMBER's sentence alignment inside groups."""

    name = "clsa"
    contrasts_pairs = True

    def losses(self, states: States, module: nn.Module | None) -> list[ItemLosses]:
        packed = states.batch.packed
        x, y = (pooled(states.of(Route(view)), packed, view, "mean") for view in self.views)
        return self.items(alignment(x_RD, y_RD) for x_RD, y_RD in groups(packed, x, y))


def alignment(x_RD: Tensor, y_RD: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of each pair (R,), and whether x's translation has the largest product: the formula above."""
    rows = torch.arange(len(x_RD), device=x_RD.device)
    is_itself_RS = rows.unsqueeze(1) == torch.arange(2 * len(x_RD), device=x_RD.device)
    products_RS = products(x_RD, torch.cat([x_RD, y_RD])).masked_fill(is_itself_RS, float("-inf"))
    targets = len(x_RD) + rows
    return cross_entropy(products_RS, targets, reduction="none"), products_RS.argmax(1) == targets
