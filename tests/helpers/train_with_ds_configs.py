"""One update and a checkpoint with each of several ds_configs, on as many ranks as are started; run by test_ds_configs.

    RANK=0 WORLD_SIZE=2 … python tests/helpers/train_with_ds_configs.py OUTPUT CONFIG…

Writes OUTPUT/<name>/step-1 and OUTPUT/<name>/weights.pt, the live engine's, and left.txt, the bytes of tensors that are
there when it is gone; a config ending in `+frozen` trains the cross-attention alone. If the machine does not support a
config, OUTPUT/<name>/refused.txt says why.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from pathlib import Path

import torch

from pretrain.recipe import PretrainRecipe
from training.engine.build import build_engine
from training.engine.processes import shut_down
from training.launch import launched_rank, run_on_ranks
from veco import VecoConfig, VecoForPreTraining


def tiny_model() -> VecoForPreTraining:
    """Odd sizes, so that parameters do not divide by the ranks."""
    torch.manual_seed(1)
    return VecoForPreTraining(
        VecoConfig(
            vocab_size=61,
            hidden_size=12,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=17,
            max_position_embeddings=21,
        )
    )


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(4, 60, (4, 2, 9), generator=generator)
    one = torch.ones(2, 9, dtype=torch.long)
    x, y, labels, pair_labels = ids
    return {
        "input_ids": x,
        "attention_mask": one,
        "labels": labels,
        "pair_input_ids": y,
        "pair_attention_mask": one,
        "pair_labels": pair_labels,
    }


def train(output: Path, config: str) -> None:
    name, _, frozen = config.partition("+")
    directory = output / config
    directory.mkdir(parents=True, exist_ok=True)
    model = tiny_model()
    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_(not frozen or ".cross_attention" in parameter_name)
    recipe = PretrainRecipe(output=str(output), ds_config=name, learning_rate=1e-2)
    try:
        engine = build_engine(model, recipe, lambda step: 1.0, output / "logs")
    except ValueError as error:
        (directory / "refused.txt").write_text(str(error), encoding="utf-8")
        return
    losses = engine.model(**batch()).losses
    engine.backward(torch.stack(list(losses.values())).sum())
    engine.step()
    engine.save(directory / "step-1")
    weights = engine.full_state_dict()
    if engine.rank == 0:
        torch.save(weights, directory / "weights.pt")
    engine.destroy()


def bytes_of_tensors() -> int:
    """The bytes of all tensors that Python knows, those that share memory once."""
    gc.collect()
    storages = {}
    for known in gc.get_objects():
        if type(known) in (torch.Tensor, torch.nn.Parameter):
            storage = known.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def main() -> None:
    output, *configs = sys.argv[1:]
    # Otherwise both ranks would print, as DeepSpeed does.
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        for config in configs:
            before = bytes_of_tensors()
            train(Path(output), config)
            if launched_rank() == 0:
                (Path(output) / config / "left.txt").write_text(str(bytes_of_tensors() - before))
            if launched_rank() == 0:
                sys.stderr.write(f"{config} done\n")
        shut_down()


if __name__ == "__main__":
    run_on_ranks(main)
