"""The weights of a model that learn nothing: its embeddings, and its lowest layers."""

from __future__ import annotations

from itertools import takewhile

from transformers import PreTrainedModel

from training.model_parts import encoder_of, layers_of


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
