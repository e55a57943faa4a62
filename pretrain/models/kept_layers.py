"""A model with some of its layers: what a student of half the depth starts from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import nn

from veco.adapter_config import AdapterConfig
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
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"keep_layers {','.join(map(str, numbers))} names a layer twice")
    described = {name: kept_adapter(name, adapter, numbers).to_dict() for name, adapter in adapters_of(model).items()}
    layers = [model.veco.layers[number - 1] for number in numbers]
    for place, layer in enumerate(layers):
        assert isinstance(layer, VecoLayer)
        for attention in (layer.self_attention, layer.cross_attention):
            attention.layer_idx = place
        for adapters in (layer.self_attention_adapters, layer.feed_forward_adapters):
            adapters.layer = place
    model.veco.layers = nn.ModuleList(layers)
    model.config.num_hidden_layers = len(layers)
    model.config.adapters = described or model.config.adapters


def kept_adapter(name: str, adapter: AdapterConfig, numbers: Sequence[int]) -> AdapterConfig:
    """What is left of an adapter in these layers, counted from 1.

    Raises ValueError where a layer with bottlenecks would come behind one without, which no configuration says.
    """
    has_one = [adapter.is_in(number - 1) for number in numbers]
    if has_one != sorted(has_one, reverse=True) or not any(has_one):
        raise ValueError(
            f"keep_layers {','.join(map(str, numbers))}: the adapter {name} is in the first {adapter.layers} layers; "
            "some of these must be kept, before all others"
        )
    return adapter if adapter.layers is None else dataclasses.replace(adapter, layers=sum(has_one))
