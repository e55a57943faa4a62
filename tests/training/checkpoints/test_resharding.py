"""The number of updates in Adam's states as different kernels save them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from training.checkpoints.resharding import adam_step
from training.checkpoints.stored_tensors import read_torch_file


@pytest.mark.parametrize(
    ("group", "states"),
    [
        ({"step": 0}, [{"step": 7}]),  # DeepSpeed's FusedAdam on the flat row of ZeRO
        ({"step": 0}, [{"step": 0}, {"step": 0}, {"step": 7}]),  # and without ZeRO: it counts in the last tensor alone
        ({}, [{"step": 7}, {"step": 7}]),  # DeepSpeed's CPUAdam
        ({}, [{"step": torch.tensor(7.0)}]),  # torch's AdamW
        ({"step": 7}, [{"exp_avg": torch.zeros(2)}]),  # kernels that count for the group
    ],
)
def test_updates_are_counted_whatever_kernel_made_them(group: dict, states: list[dict], tmp_path: Any) -> None:
    path = tmp_path / "optim_states.pt"
    torch.save({"param_groups": [{**group, "params": [0]}], "state": dict(enumerate(states))}, path)
    assert adam_step(read_torch_file(path)) == 7
