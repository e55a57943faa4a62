"""The weights of a model that learn nothing: its embeddings, and its lowest layers."""

from __future__ import annotations

from itertools import takewhile

from torch import nn
from transformers import PreTrainedModel


def encoder_of(model: PreTrainedModel) -> PreTrainedModel:
    """The encoder below a model's head. Raises ValueError for a model that keeps none apart."""
    if model.base_model is model:
        raise ValueError(f"{type(model).__name__} has no encoder apart from its head, of which some could be frozen")
    return model.base_model


def layers_of(encoder: PreTrainedModel) -> nn.ModuleList:
    """The layers of an encoder, lowest first. Raises ValueError for one whose layers are not in a list."""
    count = encoder.config.num_hidden_layers
    for module in encoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise ValueError(f"{type(encoder).__name__} has no list of its {count} layers, of which some could be frozen")


def freeze_lowest(model: PreTrainedModel, num_layers: int) -> None:
    """Freeze the embeddings, which are all that an encoder has before its layers, and the lowest layers.

    Raises ValueError for more layers than there are.
    """
    encoder = encoder_of(model)
    layers = layers_of(encoder)
    if num_layers > len(layers):
        raise ValueError(f"freeze_layers {num_layers}: the encoder has {len(layers)} layers")
    of_layers = {id(parameter) for parameter in layers.parameters()}
    embeddings = takewhile(lambda parameter: id(parameter) not in of_layers, encoder.parameters())
    for parameter in (*embeddings, *layers[:num_layers].parameters()):
        parameter.requires_grad_(False)
