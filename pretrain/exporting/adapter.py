"""Write what a run trained beside its model alone: a bottleneck adapter, or LoRA's matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from data_tools.files.directories import atomic_directory
from pretrain.exporting.checkpoints import chosen_checkpoints, weights_of_model
from pretrain.exporting.merging import DOWN
from pretrain.recipe import PretrainRecipe
from training.checkpoints.averaging import Source, check_same_layout, mean_pieces
from training.low_rank import LORA
from training.run_directory.resuming import recipe_of
from veco import VecoConfig
from veco.adapters.attach import adapter_of
from veco.adapters.files import body_of, write_adapter

PEFT_WEIGHTS, PEFT_PREFIX = "adapter_model.safetensors", "base_model.model."


def has_adapter(checkpoint: Path) -> bool:
    """Whether the run of a checkpoint has an adapter, or LoRA's matrices."""
    recipe = recipe_of(checkpoint, PretrainRecipe)
    return bool(recipe["adapter"] or recipe["lora_rank"])


def export_adapter(run_dir: Path, output: Path, step: int | None = None, average: int | str = 1) -> Path:
    """Write a run's adapter to `output`, a new directory, and return it: the mean over checkpoints as `export` has it.

    Raises ValueError as `chosen_checkpoints` does, for a run without adapters, and for a mean of LoRA's matrices.
    """
    chosen = chosen_checkpoints(run_dir, step, average)
    newest = chosen[max(chosen)]
    if not has_adapter(newest):
        raise ValueError(f"{run_dir}: was trained without adapters; export its model, without --adapter")
    recipe = PretrainRecipe(**recipe_of(newest, PretrainRecipe))
    sources = [weights_of_model(path) for path in chosen.values()]
    check_same_layout(sources)
    if recipe.lora_rank:
        if len(sources) > 1:
            raise ValueError("--average: the mean of LoRA's matrices is not that of their products; export the model")
        write_low_rank(output, recipe, sources[0])
        return output
    config = VecoConfig.from_pretrained(newest)
    names = [name for name in sources[0].weights if adapter_of(name) == recipe.adapter_name]
    weights = {name: mean_of(name, sources) for name in names}
    body = body_of(config, lambda name: sources[-1].weights[name].read())
    write_adapter(output, recipe.adapter_name, config, weights, body)
    return output


def mean_of(name: str, sources: Sequence[Source]) -> Tensor:
    """The mean of a tensor, small enough for memory."""
    return torch.cat(list(mean_pieces(name, sources))).view(sources[0].weights[name].shape)


def write_low_rank(directory: Path, recipe: PretrainRecipe, source: Source) -> None:
    """Write LoRA's matrices and their configuration as peft opens them over the model that the run started from."""
    from peft import LoraConfig  # takes seconds, and is an extra

    of_peft = {name: stored.read().float() for name, stored in source.weights.items() if LORA in name}
    tensors = {PEFT_PREFIX + name.replace(".default.", "."): weight for name, weight in of_peft.items()}
    modules = sorted(name.removesuffix(DOWN) for name in of_peft if name.endswith(DOWN))
    config = LoraConfig(
        r=recipe.lora_rank,
        lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout,
        target_modules=modules,
        base_model_name_or_path=recipe.init_from,
        inference_mode=True,
    )
    with atomic_directory(directory) as temporary:
        config.save_pretrained(str(temporary))
        (temporary / PEFT_WEIGHTS).write_bytes(save(tensors, metadata={"format": "pt"}))
