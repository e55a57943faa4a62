"""A model with some of its layers: what a student of half the depth starts from."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from veco.adapters.attach import adapters_of
from veco.layer import VecoLayer
from veco.masked_lm import VecoWithLMHead


def keep_layers(model: VecoWithLMHead, numbers: Sequence[int]) -> None:
    """Leave a model only these of its layers, counted from 1, in this order.

    Raises ValueError for a layer that it does not have, or that is named twice.
    """
    depth = model.config.num_hidden_layers
    if beyond := [number for number in numbers if not 1 <= number <= depth]:
        raise ValueError(f"keep_layers {beyond[0]} must be from 1 to {depth}, the layers of init_from")
    skipping = [name for name, adapter in adapters_of(model).items() if adapter.skips_last]
    if skipping and numbers[-1] != depth:
        raise ValueError(
            f"keep_layers {','.join(map(str, numbers))} must end with {depth}, the last layer, which the adapter "
            f"{skipping[0]} skips"
        )
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"keep_layers {','.join(map(str, numbers))} names a layer twice")
    layers = [model.veco.layers[number - 1] for number in numbers]
    for place, layer in enumerate(layers):
        assert isinstance(layer, VecoLayer)
        for attention in (layer.self_attention, layer.cross_attention):
            attention.layer_idx = place
    model.veco.layers = nn.ModuleList(layers)
    model.config.num_hidden_layers = len(layers)
