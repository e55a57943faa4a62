"""Put adapters into a model, choose those that work, and take them out again.

A model's configuration lists its adapters and the active stack, so that the whole model is saved and opened with them
like any other.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from veco.adapter_config import AdapterConfig, check_name, check_stack
from veco.adapters.modules import Adapters, UpProjection
from veco.config import VecoConfig

# A parameter of an adapter, in a place such as `layers.0.feed_forward_adapters`: what stands around the adapter's name.
OF_ADAPTER = re.compile(r"(?P<place>(?:.*?\.)?\w+?_adapters)\.(?P<adapter>[^.]+)\.(?P<inside>.*)")


def attach_adapter(model: PreTrainedModel, name: str, adapter: AdapterConfig, seed: int = 0) -> None:
    """Add a fresh adapter to a VECO model of any class, on top of its active ones: no output changes.

    Down-projections are drawn, with `seed`, by the model's rule, up-projections are zero. Raises ValueError for a name
    that the model has already or no module can have, and for a width that the adapter does not fit.
    """
    config = config_of(model)
    check_name(name)
    if name in adapters_of(model):
        raise ValueError(f"the model has an adapter {name} already; detach it, or choose another name")
    adapter.check_fits(config.hidden_size)
    generator = torch.Generator().manual_seed(seed)
    for place in places_of(model):
        if (module := place.add(name, adapter, config)) is not None:
            draw(module, config.initializer_range, generator)
            module.to(device=model.device, dtype=model.dtype)
    described = {**(config.adapters or {}), name: adapter.to_dict()}
    note(model, described, [*active_adapters(model), name])


def activate_adapters(model: PreTrainedModel, names: Sequence[str]) -> None:
    """Let these adapters work, the first one lowest, and no others; none = the model without adapters.

    Raises ValueError for names that the model has no adapter of.
    """
    check_stack(names, adapters_of(model))
    note(model, config_of(model).adapters, names)


def detach_adapter(model: PreTrainedModel, name: str) -> None:
    """Remove an adapter with its weights. Raises ValueError for a name that the model has no adapter of."""
    check_stack([name], adapters_of(model))
    for place in places_of(model):
        if name in place:
            del place[name]
    left = {other: values for other, values in (config_of(model).adapters or {}).items() if other != name}
    note(model, left, [other for other in active_adapters(model) if other != name])


def adapters_of(model: PreTrainedModel) -> dict[str, AdapterConfig]:
    """The adapters of a model, active or not, by name."""
    return {name: AdapterConfig(**values) for name, values in (config_of(model).adapters or {}).items()}


def active_adapters(model: PreTrainedModel) -> list[str]:
    """The active adapters of a model, the lowest first."""
    return list(config_of(model).active_adapters or [])


def adapter_of(parameter: str) -> str | None:
    """The name of the adapter that a parameter of that name belongs to; None for the model's own."""
    found = OF_ADAPTER.fullmatch(parameter)
    return None if found is None else found["adapter"]


def parameters_of(model: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The parameters of an adapter by their names in the model."""
    return {parameter: weight for parameter, weight in model.named_parameters() if adapter_of(parameter) == name}


def check_without_adapters(config: VecoConfig, target: str) -> None:
    """Raise ValueError for a model with active adapters, which `target` has no place for."""
    if config.active_adapters:
        raise ValueError(
            f"the model has adapters ({', '.join(config.active_adapters)}), for which {target} has no place: "
            "bottlenecks and couplings cannot be merged into other weights, as LoRA can; deactivate them, or keep "
            "VECO's own format"
        )


def config_of(model: PreTrainedModel) -> VecoConfig:
    """The configuration of a VECO. Raises ValueError for another model."""
    if not isinstance(model.config, VecoConfig):
        raise ValueError(f"a {model.config.model_type} has no place for adapters; expected a VECO")
    return model.config


def places_of(model: nn.Module) -> Iterator[Adapters]:
    """The places of a model at which adapters may have modules."""
    return (module for module in model.modules() if isinstance(module, Adapters))


def note(model: PreTrainedModel, described: dict[str, dict[str, object]] | None, active: Collection[str]) -> None:
    """Set the adapters and the active stack in the model's configurations, and in its places."""
    for place in places_of(model):
        place.active = tuple(active)
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.config.adapters = described or None
            module.config.active_adapters = list(active) or None


def draw(module: nn.Module, deviation: float, generator: torch.Generator) -> None:
    """Draw the weights of a fresh adapter's module, whose up-projections are zero."""
    for part in module.modules():
        if isinstance(part, UpProjection):
            part.start()
        elif isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=deviation, generator=generator)
            nn.init.zeros_(part.bias)
