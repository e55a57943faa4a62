"""Tensors where they lie in files: shape, type and place are known at once, their numbers are read piece by piece.

Reads what `torch.save` and safetensors write. Of a pickle only plain containers and tensors are made, so a file can
run no code of its own; objects of other classes, such as DeepSpeed's loss scaler, become `Skipped`.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import pickle
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_tools.files.atomic import named_errors

TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}  # by safetensors' names
TYPE_NAMES = {dtype: name for name, dtype in TYPES.items()}
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # by torch's names in pickles
LOCAL_HEADER_BYTES = 30  # of a zip entry, without its name and extra field, whose lengths are the last two of them


@dataclasses.dataclass(frozen=True)
class Run:
    """`count` numbers in a row, from byte `offset` of a file."""

    path: Path
    offset: int
    dtype: torch.dtype
    count: int

    def part(self, start: int, stop: int) -> Run:
        return dataclasses.replace(self, offset=self.offset + start * self.dtype.itemsize, count=stop - start)

    def read(self) -> Tensor:
        """The numbers (count,). Raises ValueError when the file ends before them."""
        buffer = bytearray(self.count * self.dtype.itemsize)
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            if file.readinto(buffer) != len(buffer):
                raise ValueError(f"{self.path}: the file is cut short: {self.offset + len(buffer):,} bytes expected")
        return torch.frombuffer(buffer, dtype=self.dtype)


@dataclasses.dataclass(frozen=True)
class Zeros(Run):
    """`count` zeros, which need no file; `path` says whose they are."""

    def read(self) -> Tensor:
        return torch.zeros(self.count, dtype=self.dtype)


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A contiguous tensor in files: its shape, and the runs that give its flattened numbers one after another."""

    shape: tuple[int, ...]
    runs: tuple[Run, ...]

    @property
    def count(self) -> int:
        """The number of numbers in the runs."""
        return sum(run.count for run in self.runs)

    @property
    def dtype(self) -> torch.dtype:
        return self.runs[0].dtype

    def part(self, start: int, stop: int) -> tuple[Run, ...]:
        """The runs of numbers `start` to `stop`."""
        found, begin = [], 0
        for run in self.runs:
            low, high = max(start - begin, 0), min(stop - begin, run.count)
            if low < high:
                found.append(run.part(low, high))
            begin += run.count
        return tuple(found)

    def read_flat(self, start: int, stop: int) -> Tensor:
        """Numbers `start` to `stop` of the flattened tensor."""
        pieces = [run.read() for run in self.part(start, stop)]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def read(self) -> Tensor:
        """The whole tensor."""
        if not self.count:
            return torch.empty(self.shape, dtype=self.dtype)
        return self.read_flat(0, self.count).view(self.shape)


def joined(tensors: Sequence[StoredTensor]) -> StoredTensor:
    """Flat: the numbers of all `tensors`, in order."""
    runs = tuple(run for tensor in tensors for run in tensor.runs)
    return StoredTensor((sum(run.count for run in runs),), runs)


class Skipped:
    """Stands for an object of a class that has no part in the weights: takes every state and keeps none."""

    def __init__(self, *arguments: object, **options: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        pass

    def extend(self, values: object) -> None:
        pass


def read_torch_file(path: Path) -> Any:
    """The contents of a file of `torch.save`, each tensor a StoredTensor. Raises ValueError for any other file."""
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            pickled = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
            if pickled is None:
                raise zipfile.BadZipFile("no data.pkl in it")
            root = pickled.removesuffix("data.pkl")
            order = f"{root}byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise ValueError(f"{path}: written on a big-endian machine, which is not supported")

            def place(key: str) -> int:
                """Byte of the file where the numbers of storage `key` begin."""
                entry = archive.getinfo(f"{root}data/{key}")
                assert entry.compress_type == zipfile.ZIP_STORED, f"{path}: {entry.filename} is compressed"
                file.seek(entry.header_offset + LOCAL_HEADER_BYTES - 4)
                return entry.header_offset + LOCAL_HEADER_BYTES + sum(struct.unpack("<HH", file.read(4)))

            with archive.open(pickled) as stream:
                return TensorUnpickler(stream, path, place).load()
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"{path}: not a whole file of torch.save ({error})") from None


class TensorUnpickler(pickle.Unpickler):
    """Makes plain containers and StoredTensors. `place` tells where in `path` a storage's numbers begin."""

    def __init__(self, stream: Any, path: Path, place: Any) -> None:
        super().__init__(stream)
        self.path, self.place = path, place

    def persistent_load(self, key: Any) -> Run:
        """A storage: ("storage", type, key, device, count)."""
        _, dtype, name, _, count = key
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{self.path}: holds numbers of a type that is not supported")
        return Run(self.path, self.place(name), dtype, count)

    def find_class(self, module: str, name: str) -> Any:
        known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor_v2"): stored_tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *rest: tensor,
            ("torch._utils", "_rebuild_parameter_with_state"): lambda tensor, *rest: tensor,
            ("torch._tensor", "_rebuild_from_type_v2"): lambda rebuild, kind, arguments, state: rebuild(*arguments),
            **{("torch", storage): dtype for storage, dtype in STORAGES.items()},
        }
        return known.get((module, name), Skipped)


def stored_tensor(
    storage: Run, start: int, shape: tuple[int, ...], strides: tuple[int, ...], *rest: object
) -> StoredTensor:
    """The tensor that torch would rebuild from these arguments."""
    count = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        assert stride == count or size <= 1, f"{storage.path}: a tensor {shape} is stored with strides {strides}"
        count *= size
    return StoredTensor(tuple(shape), (storage.part(start, start + count),))


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name. Raises ValueError for another or a broken file."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            begin = 8 + int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(begin - 8)) if begin <= size else {}
        found, end = {}, begin
        for name, entry in header.items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                dtype = TYPES[entry["dtype"]]
                found[name] = StoredTensor(
                    tuple(entry["shape"]), (Run(path, begin + first, dtype, (last - first) // dtype.itemsize),)
                )
                end = max(end, begin + last)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from None
    if end != size:
        raise ValueError(f"{path}: not a whole safetensors file ({size:,} bytes, {end:,} expected)")
    return found


def write_state(state: Any, path: str | Path) -> None:
    """`torch.save`, which of a full disk would only say that it found itself at an unexpected position in the file."""
    with named_errors(path):
        try:
            with open(path, "wb") as file:
                torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
