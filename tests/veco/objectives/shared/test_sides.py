"""Which side of its row a token is of, and how many sweeps masks cost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from veco import VecoForPreTraining
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.shared.sides import sides_of
from veco.objectives.states import Batch, sweeps_of
from veco.packing import PackedViews
from veco.views import TLM, View


def test_first_sentence_ends_with_the_first_end(model_of: Callable[[str], VecoForPreTraining]) -> None:
    """In each row anew, also behind a row without a token, and where x is empty."""
    rows = [[0, 5, 2, 2, 6, 7, 2], [], [0, 2, 2, 8, 2], [0, 9, 9, 9, 2, 2, 2]]
    ids = torch.tensor([row + [1] * (8 - len(row)) for row in rows])
    view = View(ids, ids.ne(1).long(), torch.full_like(ids, -100))
    model = model_of("tlm")
    batch = Batch.of(model.veco, model.lm_head, PackedViews.of({TLM: view}, 1), {TLM: view})
    assert sides_of(batch, TLM).tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "num_sweeps"),
    [
        ("mlm + btmlm", 1),
        ("tlm + clwr + clpc", 1),
        ("tlm + cross_mask_mlm", 2),
        ("tlm + cross_mask_mlm + clwa", 3),
    ],
)
def test_each_mask_is_a_sweep(text: str, num_sweeps: int) -> None:
    objectives = ObjectiveSum.of(text)
    assert len(sweeps_of(list(objectives), objectives.views)) == num_sweeps
