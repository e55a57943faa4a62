"""The parts of any encoder with a head: the encoder, its layers, its head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel


def encoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The encoder below a model's head. Raises ValueError for a model that keeps none apart."""
    if model.base_model is model:
        raise ValueError(f"{type(model).__name__} has no encoder apart from its head, of which some could be frozen")
    return model.base_model


def layers_of(encoder: PreTrainedModel) -> Sequence[nn.ModuleList]:
    """The modules of each layer of an encoder, lowest layer first.

    A layer is one module, but in XLM and FlauBERT its attention, feed-forward network and norms are in lists beside
    each other. Raises ValueError for an encoder whose layers are not in lists.
    """
    count = encoder.config.num_hidden_layers
    for parent in encoder.modules():
        lists = [one for one in parent.children() if isinstance(one, nn.ModuleList) and len(one) == count]
        if lists:
            return [nn.ModuleList(parts) for parts in zip(*lists, strict=True)]
    raise ValueError(f"{type(encoder).__name__} has no list of its {count} layers, of which some could be frozen")


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
