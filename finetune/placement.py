"""Where a trained model computes, and in what precision: one value for all that loads one, and the flags for it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

import torch
from torch.nn import functional

from data_tools.cli import positive_int
from training.recipe.ds_config import BF16_CAPABILITY

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
)
AUTO = "auto"
# Of a batch with padding. The states of a small one stay in a CPU's cache; a card is filled by a large one alone.
CPU_BATCH_TOKENS, CARD_BATCH_TOKENS = 1024, 8192
DEVICES = f"{AUTO}, cpu, cuda, or cuda:N for the card of number N"


@dataclass(frozen=True)
class Placement:
    """The precision in which a model computes, and its device; None is a card if there is one, or else the CPU.

    Raises ValueError where torch does not compute in that precision there, for a card that it does not have, and for
    a device that is no torch.device.
    """

    dtype: torch.dtype = torch.float32
    device: torch.device | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.device, torch.device | None):
            raise ValueError(
                f"device {self.device!r}: expected a torch.device, or None; Placement.of takes the names of devices"
            )
        device = self.chosen_device
        if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
            found = f"{count or 'no'} card{'s' * (count != 1)}"
            raise ValueError(f"device {device}: torch finds {found}; expected {DEVICES}")
        if problem := problem_of(self.dtype, device):
            raise ValueError(f"dtype {name_of(self.dtype)}: {problem}")

    @classmethod
    def of(cls, dtype: str = "float32", device: str = AUTO) -> Self:
        """The placement that names stand for. Raises ValueError for others, too."""
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r}: expected {', '.join(DTYPES)}")
        if device == AUTO:
            return cls(DTYPES[dtype])
        try:
            named = torch.device(device)
        except RuntimeError:
            named = torch.device("meta")
        if named.type not in ("cpu", "cuda"):
            raise ValueError(f"device {device!r}: expected {DEVICES}")
        return cls(DTYPES[dtype], named)

    @property
    def chosen_device(self) -> torch.device:
        """The device, or the one that stands in for None."""
        if self.device is not None:
            return self.device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def batch_tokens(chosen: int | None, device: torch.device) -> int:
    """The size of the largest batch, in tokens with padding: the chosen one, or what suits the device.

    Raises ValueError for batches of nothing.
    """
    if chosen is None:
        return CPU_BATCH_TOKENS if device.type == "cpu" else CARD_BATCH_TOKENS
    if chosen < 1:
        raise ValueError(f"max_tokens {chosen}: expected at least 1")
    return chosen


def name_of(dtype: torch.dtype) -> str:
    """Its name without "torch."."""
    return str(dtype).removeprefix("torch.")


def problem_of(dtype: torch.dtype, device: torch.device) -> str:
    """A sentence if torch does not compute in that precision on that device; empty otherwise."""
    if dtype is torch.bfloat16 and device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability < BF16_CAPABILITY:  # which would emulate it, slower than float32
            major, minor = capability
            return f"this card (sm_{major}{minor}) does not compute in it, as cards do from sm_80 on; take float16"
    if dtype in (torch.float16, torch.bfloat16) and not has_operations(dtype, device):
        advice = "take float32, or a card" if device.type == "cpu" else "take float32"
        return f"torch {torch.__version__} does not compute in it on {device.type}; {advice}"
    return ""


def has_operations(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether torch has an encoder's operations in a precision on a device, which older versions lack on the CPU.

    What else torch reports of the device, such as a memory that is full, is raised as it is.
    """
    states = torch.ones(1, 1, 8, 8, dtype=dtype, device=device)
    try:
        functional.scaled_dot_product_attention(states, states, states)
        functional.gelu(functional.layer_norm(functional.linear(states, states[0, 0]), (8,))).softmax(-1)
    except RuntimeError as error:  # NotImplementedError is one; most operations say it in words alone
        if isinstance(error, NotImplementedError) or "not implemented" in str(error):
            return False
        raise
    return True


def add_dtype_flag(parser: argparse._ActionsContainer) -> None:
    """Add --dtype, whose name `Placement.of` takes."""
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="precision (default %(default)s)")


def add_max_tokens_flag(parser: argparse._ActionsContainer, default: int | None = None) -> None:
    """Add --max-tokens, which `batch_tokens` takes."""
    usual = default or f"{CPU_BATCH_TOKENS} on a CPU, {CARD_BATCH_TOKENS} on a card"
    message = f"largest batch, in tokens with padding (default: {usual})"
    parser.add_argument("--max-tokens", type=positive_int, default=default, metavar="N", help=message)


def add_device_flag(parser: argparse._ActionsContainer) -> None:
    """Add --device, whose name `Placement.of` takes."""
    parser.add_argument("--device", default=AUTO, metavar="DEVICE", help=f"{DEVICES} (default %(default)s)")
