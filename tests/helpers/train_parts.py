"""Two updates of each part of a model with each of several engines, on as many ranks as are started.

    RANK=0 WORLD_SIZE=1 … python tests/helpers/train_parts.py OUTPUT ENGINE…

An engine is `plain`, or `zeroN`, in float32, whose ds_config is OUTPUT/<engine>.json. Writes
OUTPUT/<engine>-<part>/step-1, a checkpoint, and weights.pt, all weights after it; both are the same for every engine
and number of ranks up to rounding. PARTS are those of `trains`, and `lora`, whose matrices are adapters, too.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import torch
from train_with_ds_configs import batch, tiny_model

from pretrain.models.trained_parameters import is_trained
from pretrain.recipe import PretrainRecipe
from training.engine.build import build_engine
from training.engine.processes import shut_down
from training.launch import run_on_ranks
from training.low_rank import inject_low_rank
from veco import VecoForPreTraining
from veco.adapter_config import AdapterConfig
from veco.adapters import attach_adapter
from veco.adapters.attach import active_adapters

PARTS = ("embeddings", "body", "adapters", "lora")


def model_of(part: str, recipe: PretrainRecipe) -> VecoForPreTraining:
    """A model with an adapter or with low-rank matrices, of which a part learns."""
    model = tiny_model()
    model.config.hidden_dropout_prob = 0.0
    for module in model.modules():
        if hasattr(module, "p"):
            module.p = 0.0
    if part == "lora":
        inject_low_rank(model, recipe)
    else:
        attach_adapter(model, "language", AdapterConfig("houlsby", 4, invertible=True))
    for name, weight in model.named_parameters():
        weight.requires_grad_(is_trained(name, recipe, active_adapters(model)))
    return model


def train(output: Path, engine_name: str, part: str) -> None:
    directory = output / f"{engine_name}-{part}"
    directory.mkdir(parents=True, exist_ok=True)
    recipe = PretrainRecipe(
        output=str(output),
        engine="plain" if engine_name == "plain" else "deepspeed",
        ds_config=str(output / f"{engine_name}.json"),
        learning_rate=1e-2,
        attention="eager",
        trains="adapters" if part == "lora" else part,
        lora_rank=2 if part == "lora" else 0,
    )
    torch.manual_seed(3)
    model = model_of(part, recipe)
    engine = build_engine(model, recipe, lambda step: 1.0, output / "logs")
    for _ in range(2):
        losses = engine.model(**batch()).losses
        engine.backward(torch.stack(list(losses.values())).sum() / engine.world_size)
        learning = [name for name, weight in model.named_parameters() if weight.grad is not None]
        frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
        assert not frozen & set(learning), f"{directory.name}: gradients of {sorted(frozen & set(learning))[:3]}"
        engine.step()
    engine.save(directory / "step-1")
    weights = engine.full_state_dict()
    if engine.rank == 0:
        torch.save(weights, directory / "weights.pt")
    engine.destroy()


def main() -> None:
    output, *engines = sys.argv[1:]
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        for engine in engines:
            for part in PARTS:
                train(Path(output), engine, part)
        shut_down()


if __name__ == "__main__":
    run_on_ranks(main)
