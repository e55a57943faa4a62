"""The weights of a model that learn nothing: its embeddings, and its lowest layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

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


def freeze_lowest(model: PreTrainedModel, num_layers: int) -> None:
    """Freeze the embeddings, which are all that an encoder has before its layers, and the lowest layers.

    Raises ValueError for more layers than there are.
    """
    encoder = encoder_of(model)
    layers = layers_of(encoder)
    if num_layers > len(layers):
        raise ValueError(f"freeze_layers {num_layers}: the encoder has {len(layers)} layers")
    of_layers = {id(parameter) for layer in layers for parameter in layer.parameters()}
    embeddings = takewhile(lambda parameter: id(parameter) not in of_layers, encoder.parameters())
    frozen = (parameter for layer in layers[:num_layers] for parameter in layer.parameters())
    for parameter in (*embeddings, *frozen):
        parameter.requires_grad_(False)
