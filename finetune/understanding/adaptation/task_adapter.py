"""A bottleneck adapter that learns with the head, in a frozen encoder and on top of a frozen language adapter (MAD-X).

The model of a checkpoint has all of them, and opens like any other that has adapters. The task's adapter alone lies
beside it in `adapter/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from finetune.understanding.adaptation.adapted import Adapted
from finetune.understanding.recipe import UnderstandingRecipe
from training.model_parts import head_modules
from training.run_directory.kinds import ADAPTER_DIR
from veco.adapter_config import AdapterConfig
from veco.adapters import activate_adapters, attach_adapter, load_adapter
from veco.adapters.attach import active_adapters, adapter_of, adapters_of, config_of
from veco.adapters.files import body_of, write_adapter

TASK_ADAPTER = "task"


class TaskAdapter(Adapted):
    """A model of which the task's adapter and the head learn."""

    def __init__(self, model: PreTrainedModel, recipe: UnderstandingRecipe) -> None:
        """Raises ValueError for an encoder without places for adapters, and as `load_adapter` does."""
        super().__init__(model)
        depth = config_of(model).num_hidden_layers
        learned = active_adapters(model)
        if recipe.language_adapter:
            language = load_adapter(model, recipe.language_adapter)
            if TASK_ADAPTER in learned:  # trained before: the language takes the place of what is below it
                activate_adapters(model, [language, *learned[learned.index(TASK_ADAPTER) :]])
        adapter = AdapterConfig(recipe.adapter, recipe.adapter_reduction, layers=recipe.adapter_layers(depth))
        before = adapters_of(model).get(TASK_ADAPTER)
        if before is None:
            attach_adapter(model, TASK_ADAPTER, adapter, recipe.seed)
        elif before != adapter:
            given = adapter.to_dict()
            differing = [f"{name} {value}" for name, value in before.to_dict().items() if value != given[name]]
            raise ValueError(
                f"the model has an adapter {TASK_ADAPTER} already, of {', '.join(differing)}; give the same, or start "
                "from the model without it"
            )
        heads = tuple(f"{name}." for name in head_modules(model))
        own = f"{model.base_model_prefix}."
        for name, weight in model.named_parameters():
            weight.requires_grad_(adapter_of(name) == TASK_ADAPTER or name.removeprefix(own).startswith(heads))

    def write_beside(self, weights: Mapping[str, Tensor], checkpoint: Path) -> None:
        of_task = {name: weight for name, weight in weights.items() if adapter_of(name) == TASK_ADAPTER}
        config = config_of(self.model)
        write_adapter(checkpoint / ADAPTER_DIR, TASK_ADAPTER, config, of_task, body_of(config, weights.__getitem__))
