"""Low-rank adapters (LoRA, by peft) in the layers of the encoder, which learn with the head; the rest is frozen.

The model of a checkpoint has the adapters merged into its weights, so that it opens like any other. The adapters alone,
with the head, lie beside it in `adapter/`, as peft opens them over the model that training started from.
"""

from __future__ import annotations

import copy
import importlib.util
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from data_tools.cli import one_line
from finetune.understanding.adaptation.adapted import Adapted
from finetune.understanding.adaptation.freezing import encoder_of, layers_of
from finetune.understanding.recipe import UnderstandingRecipe

ADAPTER_DIR = "adapter"  # of a checkpoint


class LowRank(Adapted):
    """A model of peft around the whole one."""

    def __init__(self, model: PreTrainedModel, recipe: UnderstandingRecipe) -> None:
        """Raises ValueError where peft is not installed, and for targets that it finds nowhere or cannot adapt."""
        if importlib.util.find_spec("peft") is None:
            raise ValueError("lora_rank: peft is not installed; install it with pip install 'veco[peft]'")
        from peft import LoraConfig, get_peft_model  # takes seconds, and is an extra

        linear = linear_modules(model)
        if recipe.lora_targets and not any(re.fullmatch(recipe.lora_targets, name) for name in linear):
            raise ValueError(
                f"lora_targets {recipe.lora_targets!r} matches no linear module of the layers, such as {linear[0]}"
            )
        config = LoraConfig(
            r=recipe.lora_rank,
            lora_alpha=recipe.lora_alpha,
            lora_dropout=recipe.lora_dropout,
            target_modules=recipe.lora_targets or linear,
            modules_to_save=head_modules(model),
            ensure_weight_tying=bool(model.all_tied_weights_keys),
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # peft calls what transformers has renamed
                super().__init__(get_peft_model(model, config))
        except ValueError as error:
            raise ValueError(f"lora_targets {recipe.lora_targets!r}: {one_line(error)}") from None
        self._without_weights = without_weights(self.model)

    def whole(self, weights: Mapping[str, Tensor]) -> tuple[PreTrainedModel, dict[str, Tensor]]:
        """The merged model, in float32: small changes would be lost in 16 bits."""
        adapted: Any = copy.deepcopy(self._without_weights)
        adapted.load_state_dict({name: weight.float() for name, weight in weights.items()}, assign=True)
        merged = adapted.merge_and_unload(safe_merge=True)  # safe: the weights may be those that the engine trains
        return merged, merged.state_dict()

    def write_beside(self, weights: Mapping[str, Tensor], checkpoint: Path) -> None:
        directory = checkpoint / ADAPTER_DIR
        self.model.save_pretrained(directory, state_dict=dict(weights), save_embedding_layers=False)
        (directory / "README.md").unlink()  # a form to fill in


def linear_modules(model: PreTrainedModel) -> list[str]:
    """The names of all linear modules in the layers of a model's encoder."""
    parts = (module for layer in layers_of(encoder_of(model)) for module in layer.modules())
    inside = {id(module) for module in parts if isinstance(module, nn.Linear)}
    return [name for name, module in model.named_modules() if id(module) in inside]


def head_modules(model: PreTrainedModel) -> list[str]:
    """The names of the modules with weights above the encoder's states; a pooler is one of them."""
    above = [(name, module) for name, module in model.named_children() if name != model.base_model_prefix]
    above += [(name, module) for name, module in model.base_model.named_children() if name == "pooler"]
    return [name for name, module in above if any(True for _ in module.parameters())]


def without_weights(model: nn.Module) -> nn.Module:
    """A copy of a model whose parameters have shapes, but no numbers and no memory."""
    empty = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, empty)
