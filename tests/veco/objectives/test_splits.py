"""The promise: a batch in parts, whatever their number, has the losses and gradients of the whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from random_pairs import batch_of_views

from veco import VecoForPreTraining
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.table import OBJECTIVES

SUMS = (
    *("mlm", "tlm", "ca_mlm", "clm", "ca_mlm + 0.5 * contrast"),
    *("cross_mask_mlm", "btmlm", "clwa", "clwr", "clwr(both=False)", "clpc"),
    *("hictl", "mbart(translate=true)", "contrast(masked=true)", "clsa(masked=true)"),
    "self_alignment(layer=1, consistency=true)",
)


# In tests of their own, with a lexicon, a teacher or a queue.
ELSEWHERE = {"alm", "veco2", "distil", "xlco"}


def test_no_objective_is_left_out() -> None:
    assert {part.name for text in SUMS for part in ObjectiveSum.of(text)} | ELSEWHERE == set(OBJECTIVES)


@pytest.mark.parametrize("objective", SUMS)
def test_parts_add_up_to_the_whole(model_of: Callable[[str], VecoForPreTraining], objective: str) -> None:
    """Groups of two pairs, whole or in two micro-batches."""
    model = model_of(objective)
    views, counts = model.objective.views, model.objective.counts
    whole = batch_of_views(*views, group_pairs=2)
    num_items = torch.tensor([count.of(whole["packed"].sizes) for count in counts])
    parts = [batch_of_views(*views, group_pairs=2, pairs=slice(first, first + 2)) for first in (0, 2)]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        return [g for g in torch.autograd.grad(loss, learning, allow_unused=True) if g is not None]

    expected = model(**whole).loss
    losses = [model(**part, num_items_in_batch=num_items).loss for part in parts]
    torch.testing.assert_close(torch.stack(losses).sum(), expected)
    for parts_of_gradient, gradient in zip(zip(*map(gradients, losses), strict=True), gradients(expected), strict=True):
        torch.testing.assert_close(sum(parts_of_gradient), gradient, rtol=1e-5, atol=1e-7)
