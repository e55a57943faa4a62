"""A device whose floating-point tensors are shapes alone, and which counts the bytes that live on it.

A whole step of VECO-large takes seconds on a laptop and tells what a card would have to hold. Whole numbers (ids,
places, lengths) stay on the CPU with their values, since the model's control flow follows them. Dropout keeps a mask of
one byte an element, as CUDA's does, and attention is a fused kernel over packed tokens, which keeps queries, keys,
values, context and one float32 a head and query.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from veco import VecoConfig, VecoForPreTraining
from veco.attention import PackedMask
from veco.objectives.objective_sum import ObjectiveSum

ALIGNMENT = 512  # bytes: CUDA's allocator rounds up to it


class LiveBytes(TorchDispatchMode):
    """Inside `with`, what has a tensor without values in it is computed without values; `live` and `peak` in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        devices = {tensor.is_meta for tensor in tensors_in((args, tuple(kwargs.values())))}
        if len(devices) == 2:
            args, kwargs = tree_map_only(Tensor, without_values, (args, kwargs))
        result = func(*args, **kwargs)
        for tensor in tensors_in((result,)):
            if tensor.is_meta:
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = -(-storage.nbytes() // ALIGNMENT) * ALIGNMENT

        def forget(_: object) -> None:
            del self._seen[key]
            self.live -= size

        self._seen[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """The tensors of an operation's arguments or results, which may be in lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from tensors_in(value)


def without_values(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta else torch.empty_like(tensor, device="meta")


class FusedAttention(torch.autograd.Function):
    """What a fused kernel over packed tokens keeps, and the shapes that it gives."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        context = torch.empty_like(query)
        statistics = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, context, statistics)
        return context

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


def fused_attend(mask: PackedMask, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    return FusedAttention.apply(query, key, value)


def dropout_with_small_mask(x: Tensor, p: float, training: bool = True) -> Tensor:
    return torch.native_dropout(x, p, True)[0] if training and p else x


@contextlib.contextmanager
def pretended_kernels() -> Iterator[LiveBytes]:
    """A counter, with what CUDA does otherwise than a device without values in its place."""
    with (
        mock.patch.object(PackedMask, "attend", fused_attend),
        mock.patch("torch.nn.functional.dropout", dropout_with_small_mask),
        mock.patch("torch.autocast", lambda *_, **__: contextlib.nullcontext()),  # knows no device of that name
        mock.patch("torch.is_autocast_enabled", lambda *_: False),
        LiveBytes() as counter,
    ):
        yield counter


@dataclass(frozen=True)
class Counted:
    """Bytes over the weights: kept between the forward and the backward pass, at the most, and left behind."""

    kept: int
    peak: int
    gradients: int


def counted_step(
    config: VecoConfig,
    batch: dict[str, Tensor],
    recompute: bool,
    objective: str | ObjectiveSum = "ca_mlm+tlm",
    prepare: Callable[[VecoForPreTraining], object] = lambda model: None,
) -> Counted:
    """What a forward and backward pass in bfloat16 takes; `batch` is on the CPU, as the loader gives it.

    `prepare` gives the model a teacher or a momentum encoder, whose weights are not counted.
    """
    with pretended_kernels() as counter:
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.device("meta"):
                model = VecoForPreTraining(config, objective).train()
                prepare(model)
        finally:
            torch.set_default_dtype(torch.float32)
        if recompute:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        weights = counter.live
        counter.peak = weights
        losses = model(**batch).losses
        loss = torch.stack(list(losses.values())).sum()
        del losses
        kept = counter.live - weights
        loss.backward()
        return Counted(kept, counter.peak - weights, counter.live - weights)
