"""Adapters that do something, without training."""

from __future__ import annotations

from pathlib import Path

import torch

from veco import VecoForMaskedLM
from veco.adapter_config import AdapterConfig
from veco.adapters import attach_adapter, save_adapter
from veco.adapters.attach import parameters_of


def write_adapters(model_dir: Path, root: Path, names: tuple[str, ...]) -> dict[str, Path]:
    """Directories `root`/NAME of adapters of a model: bottlenecks and an invertible one, of random weights."""
    model = VecoForMaskedLM.from_pretrained(model_dir)
    for number, name in enumerate(names):
        attach_adapter(model, name, AdapterConfig("houlsby", 4, invertible=True))
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for weight in parameters_of(model, name).values():
                weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
        save_adapter(model, name, root / name)
    return {name: root / name for name in names}
