"""Write the weights of one checkpoint, or the mean of several, as safetensors that transformers opens.

Piece by piece: no more than a few million numbers are in memory at a time, however large the model.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from data_tools.cli import progress_bar
from training.checkpoints.stored_tensors import TYPE_NAMES, StoredTensor

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"  # names the files where there are several
PIECE = 4 * 2**20  # numbers read at a time
MAX_FILE_BYTES = 5 * 10**9


@dataclasses.dataclass(frozen=True)
class Source:
    """The weights of a checkpoint or model by name, and where they were found."""

    path: Path
    weights: Mapping[str, StoredTensor]


def check_same_layout(sources: Sequence[Source]) -> None:
    """Raise ValueError naming a tensor that a source lacks, or has in another shape or kind of type."""
    first = sources[0]
    for other in sources[1:]:
        for name in sorted(first.weights.keys() ^ other.weights.keys()):
            has, lacks = (first, other) if name in first.weights else (other, first)
            raise ValueError(
                f"{lacks.path} has no tensor {name}, which {has.path} has: the checkpoints are of different models"
            )
        for name, tensor in first.weights.items():
            found = other.weights[name]
            if found.shape != tensor.shape or found.dtype.is_floating_point != tensor.dtype.is_floating_point:
                raise ValueError(
                    f"{name} is {described(tensor)} in {first.path} but {described(found)} in {other.path}"
                )


def described(tensor: StoredTensor) -> str:
    return f"{TYPE_NAMES[tensor.dtype]} {list(tensor.shape)}"


def write_weights(
    directory: Path, sources: Sequence[Source], dtype: torch.dtype | None, max_file_bytes: int = MAX_FILE_BYTES
) -> None:
    """Write the mean of each tensor over `sources` into `directory`: one file, or several with their index.

    Floating types become `dtype`; None means float32, or wider where they are stored wider. Tensors of other types are
    copied. Raises ValueError when the sources do not hold the same model, integers differ, or a tensor is empty.
    """
    check_same_layout(sources)
    types = {name: type_of(name, sources, dtype) for name in sources[0].weights}
    sizes = {name: tensor.count * types[name].itemsize for name, tensor in sources[0].weights.items()}
    for source in sources:
        for name, tensor in source.weights.items():
            if not tensor.count or tensor.count != math.prod(tensor.shape):
                raise ValueError(f"{source.path}: {name} has {tensor.count} numbers for its shape {tensor.shape}")
    files = split(sizes, max_file_bytes)
    if len(files) > 1:
        index = {
            "metadata": {
                "total_parameters": sum(tensor.count for tensor in sources[0].weights.values()),
                "total_size": sum(sizes.values()),
            },
            "weight_map": {name: file for file, names in files.items() for name in names},
        }
        (directory / WEIGHTS_INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    with progress_bar() as bar:
        task = bar.add_task("writing weights", total=len(sizes), unit="tensors")
        for file_name, names in files.items():
            with open(directory / file_name, "wb") as file:
                write_header(file, {name: sources[0].weights[name] for name in names}, types)
                for name in names:
                    for piece in mean_pieces(name, sources):
                        file.write(piece.to(types[name]).view(torch.uint8).numpy().data)
                    bar.advance(task)


def type_of(name: str, sources: Sequence[Source], dtype: torch.dtype | None) -> torch.dtype:
    stored = sources[0].weights[name].dtype
    if not stored.is_floating_point:
        return stored
    return dtype or torch.promote_types(stored, torch.float32)


def split(sizes: Mapping[str, int], max_file_bytes: int) -> dict[str, list[str]]:
    """File name -> tensors in it, in the order of `sizes` (bytes by tensor), named as transformers does."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if groups[-1] and filled + size > max_file_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    if len(groups) == 1:
        return {WEIGHTS: groups[0]}
    return {f"model-{number:05}-of-{len(groups):05}.safetensors": names for number, names in enumerate(groups, start=1)}


def write_header(file: BinaryIO, weights: Mapping[str, StoredTensor], types: Mapping[str, torch.dtype]) -> None:
    """Write a safetensors file up to its first number."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, tensor in weights.items():
        end = begin + tensor.count * types[name].itemsize
        header[name] = {
            "dtype": TYPE_NAMES[types[name]],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers start aligned
    file.write(len(text).to_bytes(8, "little") + text)


def mean_pieces(name: str, sources: Sequence[Source]) -> Iterator[Tensor]:
    """The flat mean of one tensor in pieces; sums are float64, because bfloat16 rounds small differences away."""
    first, *others = (source.weights[name] for source in sources)
    for start in range(0, first.count, PIECE):
        stop = min(start + PIECE, first.count)
        piece = first.read_flat(start, stop)
        if not piece.is_floating_point():
            for other, source in zip(others, sources[1:], strict=True):
                if not torch.equal(piece, other.read_flat(start, stop)):
                    raise ValueError(f"{name} holds integers that differ between {sources[0].path} and {source.path}")
        elif others:
            total = piece.double()
            for other in others:
                total += other.read_flat(start, stop)
            piece = total / len(sources)
        yield piece
