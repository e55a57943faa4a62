"""Biases as training leaves them: fresh ones are zero, so that a row in the wrong place would not show."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel


def randomised(model: PreTrainedModel) -> PreTrainedModel:
    """The model with random biases, in evaluation mode."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return model.eval()
