"""Each objective lowers its own loss, on a batch that it reads again and again."""

from __future__ import annotations

import pytest
import torch
from random_pairs import batch_of_views

from veco import VecoConfig, VecoForPreTraining
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.table import OBJECTIVES

# What the loss falls below, as a share of the first, in 40 updates.
REACHED = {
    "ca_mlm": 0.5,
    "tlm": 0.5,
    "clm": 0.5,
    "mbart": 0.5,
    "contrast": 0.5,
    "hictl": 0.85,
    "cross_mask_mlm": 0.5,
    "btmlm": 0.5,
    "clwa": 0.7,
    "clwr": 0.5,
    "clpc": 0.5,
    "clsa": 0.5,
    "self_alignment(layer=-1)": 0.7,
}
# What is beside mlm in ca_mlm, and what needs a momentum encoder, a lexicon or a teacher: see the tests of each.
ELSEWHERE = {"mlm", "alm", "xlco", "veco2", "distil"}


def test_every_objective_is_here() -> None:
    assert {name.partition("(")[0] for name in REACHED} | ELSEWHERE == set(OBJECTIVES)


@pytest.mark.parametrize("objective", REACHED)
def test_loss_falls(config: VecoConfig, objective: str) -> None:
    torch.manual_seed(1)
    model = VecoForPreTraining(config, objective)
    batch = batch_of_views(*ObjectiveSum.of(objective).views)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < REACHED[objective] * losses[0]
