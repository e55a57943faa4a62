from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from veco import VecoConfig, VecoForPreTraining


@pytest.fixture
def model_of(config: VecoConfig) -> Callable[[str], VecoForPreTraining]:
    """A model with an objective, in float64, so that losses can be compared to 1e-6."""

    def made(objective: str) -> VecoForPreTraining:
        torch.manual_seed(1)
        return VecoForPreTraining(config, objective).double()

    return made
