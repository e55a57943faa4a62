"""Adapters in files: a directory with adapter_config.json and adapter.safetensors, a few MB.

Nothing of the model is in them. They note its shape and a fingerprint of its body, so that an adapter is not put into
another model, where it would do no good. Token embeddings are not part of that: they can be exchanged (MonoTrans).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import PreTrainedModel

from veco.adapter_config import AdapterConfig, check_stack
from veco.adapters.attach import (
    OF_ADAPTER,
    adapters_of,
    attach_adapter,
    config_of,
    detach_adapter,
    parameters_of,
)
from veco.config import VecoConfig

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter.safetensors"
SHAPE = ("hidden_size", "num_hidden_layers")  # of a model, which an adapter must share
ENCODER = "veco."  # the start of the encoder's names, in every model but the bare encoder
BFLOAT16 = "bfloat16"
PRECISIONS = {BFLOAT16: torch.bfloat16, "float16": torch.float16}
FINGERPRINTED = ("layers.{first}.self_attention.q_proj.weight", "layers.{last}.feed_forward.down_proj.weight")


@dataclass(frozen=True)
class AdapterFile:
    """What adapter_config.json says: the adapter's name and kind, and the shape and the body that it was trained in.

    `body` are fingerprints of that body by precision (see `body_of`).
    """

    name: str
    adapter: AdapterConfig
    shape: Mapping[str, int]
    body: Mapping[str, str]

    def check_fits(self, config: VecoConfig, body: Mapping[str, str], where: Path) -> None:
        """Raise ValueError for a model of another shape, or with another body."""
        for field, value in self.shape.items():
            if vars(config)[field] != value:
                raise ValueError(
                    f"{where}: the adapter is of a model with {field} {value}, this one has {vars(config)[field]}"
                )
        if not any(body[precision] == found for precision, found in self.body.items()):
            raise ValueError(
                f"{where}: the adapter was trained in a model with other weights; expected the one that it was trained "
                "in, whose body did not learn since, in float32 or in the precision of that training"
            )


def save_adapter(model: PreTrainedModel, name: str, directory: str | Path) -> None:
    """Write an adapter of a model to a new directory, in float32.

    Raises ValueError for a name that the model has no adapter of, and where the directory exists.
    """
    check_stack([name], adapters_of(model))
    weights = {parameter: weight.detach() for parameter, weight in parameters_of(model, name).items()}
    body = body_of(config_of(model), model.state_dict().__getitem__)
    write_adapter(Path(directory), name, config_of(model), weights, body)


def write_adapter(
    directory: Path, name: str, config: VecoConfig, weights: Mapping[str, Tensor], body: Mapping[str, str]
) -> None:
    """Write the adapter of that name of a model, from `weights` by their names in the model."""
    from data_tools.files.directories import atomic_directory  # which those who only open models do without

    described = {
        "name": name,
        "adapter": AdapterConfig(**(config.adapters or {})[name]).to_dict(),
        "model": {field: vars(config)[field] for field in SHAPE},
        "body": dict(body),
    }
    tensors = {name_in_file(parameter): weight.float().cpu().contiguous() for parameter, weight in weights.items()}
    with atomic_directory(directory) as temporary:
        (temporary / CONFIG_FILE).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        (temporary / WEIGHTS_FILE).write_bytes(save(tensors, metadata={"format": "pt"}))


def load_adapter(model: PreTrainedModel, directory: str | Path, name: str | None = None) -> str:
    """Attach a saved adapter to a model, on top of its active ones; return its name, its own unless `name` is given.

    Raises ValueError for a directory without an adapter, an adapter of another shape or trained in another model, and a
    name that the model has already; the model is then as it was.
    """
    directory = Path(directory)
    found = read_config(directory)
    found.check_fits(config_of(model), body_of(config_of(model), model.state_dict().__getitem__), directory)
    tensors = read_weights(directory)
    name = name or found.name
    attach_adapter(model, name, found.adapter)
    own = parameters_of(model, name)
    expected = {name_in_file(parameter): tuple(weight.shape) for parameter, weight in own.items()}
    if problem := difference(expected, {key: tuple(tensor.shape) for key, tensor in tensors.items()}):
        detach_adapter(model, name)
        raise ValueError(f"{directory / WEIGHTS_FILE}: {problem}")
    with torch.no_grad():
        for parameter, weight in own.items():
            weight.copy_(tensors[name_in_file(parameter)])
    return name


def read_config(directory: Path) -> AdapterFile:
    """What a directory's adapter_config.json says. Raises ValueError where there is none, or it is another's."""
    path = directory / CONFIG_FILE
    if not path.is_file():
        found = "no such directory" if not directory.is_dir() else f"it has no {CONFIG_FILE}"
        raise ValueError(f"{directory}: expected the directory of an adapter, but {found}")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        name, adapter, shape, body = (content[key] for key in ("name", "adapter", "model", "body"))
        shape = {field: int(shape[field]) for field in SHAPE}
        body = {BFLOAT16: body} if isinstance(body, str) else dict(body)  # of earlier versions
        body = {precision: body[precision] for precision in PRECISIONS if precision in body}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not the file of an adapter of VECO ({type(error).__name__}: {error})") from None
    return AdapterFile(str(name), AdapterConfig.of(adapter, str(path)), shape, body)


def read_weights(directory: Path) -> dict[str, Tensor]:
    """The tensors of a directory's adapter.safetensors. Raises ValueError where there are none."""
    path = directory / WEIGHTS_FILE
    if not path.is_file():
        raise ValueError(f"{path}: no such file, but {CONFIG_FILE} lies there; copy the whole directory")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from None


def difference(expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> str:
    """The first tensor that is missing, too much or of another shape, in words; empty where all are as expected."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"lacks {name}"
        if name not in expected:
            return f"has {name}, for which the model has no place"
        if expected[name] != found[name]:
            return f"{name} has shape {found[name]}, expected {expected[name]}"
    return ""


def name_in_file(parameter: str) -> str:
    """The name of an adapter's parameter in its file: without the adapter's name, which may change, and the model's."""
    found = OF_ADAPTER.fullmatch(parameter)
    assert found is not None, parameter
    return f"{found['place'].removeprefix(ENCODER)}.{found['inside']}"


def body_of(config: VecoConfig, weight: Callable[[str], Tensor]) -> dict[str, str]:
    """Fingerprints of a model's body: of two of its matrices, rounded to each of the precisions of 16 bits.

    Of a model and its copy in one of these, that one's are the same; of two copies in different ones, none.
    `weight` maps the name of a parameter to it; raises KeyError for an unknown one.
    """
    digests = {precision: hashlib.sha256() for precision in PRECISIONS}
    for pattern in FINGERPRINTED:
        name = pattern.format(first=0, last=config.num_hidden_layers - 1)
        try:
            found = weight(ENCODER + name)
        except KeyError:
            found = weight(name)
        for precision, dtype in PRECISIONS.items():
            digests[precision].update(found.detach().cpu().to(dtype).contiguous().view(torch.uint8).numpy().tobytes())
    return {precision: digest.hexdigest() for precision, digest in digests.items()}
