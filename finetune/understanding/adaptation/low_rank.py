"""Low-rank adapters (LoRA, by peft) in the layers of the encoder, which learn with the head; the rest is frozen.

The model of a checkpoint has the adapters merged into its weights, so that it opens like any other. The adapters alone,
with the head, lie beside it in `adapter/`, as peft opens them over the model that training started from.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from finetune.understanding.adaptation.adapted import Adapted
from finetune.understanding.recipe import UnderstandingRecipe
from training.low_rank import lora_config, named_errors_of_peft
from training.model_parts import head_modules
from training.run_directory.kinds import ADAPTER_DIR


class LowRank(Adapted):
    """A model of peft around the whole one."""

    def __init__(self, model: PreTrainedModel, recipe: UnderstandingRecipe) -> None:
        """Raises ValueError where peft is not installed, and for targets that it finds nowhere or cannot adapt."""
        config = lora_config(recipe, model, learns_whole=head_modules(model))
        from peft import get_peft_model  # takes seconds, and is an extra

        with named_errors_of_peft(recipe):
            super().__init__(get_peft_model(model, config))
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


def without_weights(model: nn.Module) -> nn.Module:
    """A copy of a model whose parameters have shapes, but no numbers and no memory."""
    empty = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, empty)
