"""Adam as DeepSpeed builds it from our settings: torch's own, fused, which needs no compiler."""

from __future__ import annotations

import pytest
import torch

from training.engine.deepspeed_config import complete_config
from training.recipe.base import TrainingRecipe
from training.recipe.ds_config import read_ds_config

RECIPE = TrainingRecipe(output="x", adam_beta1=0.7, adam_beta2=0.8)


@pytest.mark.parametrize("name", ["cpu.json", "zero1_bf16.json", "zero3_fp16.json"])
def test_deepspeed_takes_torchs_fused_adam(name: str) -> None:
    from deepspeed import DeepSpeedEngine

    params = dict(complete_config(read_ds_config(name), RECIPE)["optimizer"]["params"])
    is_decoupled = params.pop("adam_w_mode")
    kind, more = DeepSpeedEngine.get_optimizer_configuration(None, params, is_decoupled)
    adam = kind([torch.zeros(2, requires_grad=True)], **params, **more)  # as DeepSpeed calls it
    assert type(adam) is torch.optim.AdamW
    assert (adam.defaults["fused"], adam.defaults["betas"]) == (True, (0.7, 0.8))


def test_offloaded_adam_stays_deepspeeds() -> None:
    """Its CPUAdam takes no `fused`."""
    params = complete_config(read_ds_config("zero3_offload.json"), RECIPE)["optimizer"]["params"]
    assert not params["torch_adam"] and "fused" not in params
