"""Adam's state from checkpoints of other devices and of DeepSpeed's kernels.

The oracle is torch's AdamW, never stopped.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from training.engine.adam import is_fusible, settle_adam

UPDATES = 7


def parameters() -> list[torch.Tensor]:
    return [torch.full((size,), 0.5, requires_grad=True) for size in (2, 3)]


def update(adam: torch.optim.AdamW, rows: list[torch.Tensor], times: int) -> None:
    for number in range(times):
        for row in rows:
            row.grad = torch.linspace(-1, 1, len(row)) * (number + 1)
        adam.step()


@pytest.fixture
def trained() -> tuple[torch.optim.AdamW, list[torch.Tensor]]:
    rows = parameters()
    adam = torch.optim.AdamW(rows, lr=0.1)
    update(adam, rows, UPDATES)
    return adam, rows


def resumed(state: dict[str, Any], rows: list[torch.Tensor]) -> tuple[torch.optim.AdamW, list[torch.Tensor]]:
    copies = [row.detach().clone().requires_grad_() for row in rows]
    adam = torch.optim.AdamW(copies, lr=0.1, fused=True)
    adam.load_state_dict(copy.deepcopy(state))
    settle_adam(adam)
    return adam, copies


def as_fused_adam_saves(state: dict[str, Any]) -> dict[str, Any]:
    """As deepspeed.ops.adam.FusedAdam leaves it: the group stays at 0, the last tensor alone counts, with an int."""
    keys = ("lr", "betas", "eps", "weight_decay", "params")
    groups = [{name: group[name] for name in keys} for group in state["param_groups"]]
    states = {number: {**of_row, "step": 0} for number, of_row in state["state"].items()}
    states[len(states) - 1]["step"] = UPDATES
    return {"param_groups": [{**group, "bias_correction": True, "step": 0} for group in groups], "state": states}


def test_rows_that_are_not_in_order_in_memory_are_not_fused() -> None:
    """A transposed matrix, and a part of a larger one."""
    base = torch.linspace(-1, 1, 12).view(3, 4)
    rows = [base.clone().T.requires_grad_(), base.clone()[:, 1:3].requires_grad_()]
    assert is_fusible([base]) and not any(is_fusible([row]) for row in rows)
    for row in rows:
        row.grad = torch.ones_like(row)
    adam = torch.optim.AdamW(rows, lr=0.1)
    adam.step()
    settle_adam(adam)
    assert [group["fused"] for group in adam.param_groups] == [False]


@pytest.mark.parametrize("is_foreign", [True, False])
def test_adam_goes_on_as_if_never_stopped(is_foreign: bool, trained: Any) -> None:
    """With the fused kernel, whatever kernel wrote the checkpoint."""
    reference, rows = trained
    state = reference.state_dict()
    adam, copies = resumed(as_fused_adam_saves(state) if is_foreign else state, rows)
    update(adam, copies, 2)
    update(reference, rows, 2)
    assert [group["fused"] for group in adam.param_groups] == [True]
    for row, expected in zip(copies, rows, strict=True):
        assert adam.state[row]["step"] == UPDATES + 2
        torch.testing.assert_close(row, expected, rtol=1e-6, atol=1e-6)


def test_count_of_updates_lies_beside_its_row(trained: Any) -> None:
    """The fused kernel reads it there. The device without numbers stands for a card."""
    reference, rows = trained
    on_card = [torch.empty_like(row, device="meta").requires_grad_() for row in rows]
    adam = torch.optim.AdamW(on_card, lr=0.1)
    adam.load_state_dict(reference.state_dict())
    assert adam.state[on_card[0]]["step"].device.type == "cpu"  # torch leaves it where it was
    settle_adam(adam)
    assert {state["step"].device.type for state in adam.state.values()} == {"meta"}
