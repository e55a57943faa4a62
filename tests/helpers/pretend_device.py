"""A device that pretends to be an accelerator: its tensors have real values, computed on the CPU.

Where there is no GPU it tells what a GPU would meet: tensors on two devices in one operation (an error, as on CUDA),
waits of the host for the device by file and line, and kernels. A wait is an operation that needs a value on the host:
`.item()`, `.tolist()`, `.cpu()`, `nonzero`, an index of booleans, a copy from memory that is not pinned.
"""

from __future__ import annotations

import contextlib
import os
import traceback
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _DummyPrivateUse1Hook,
    _setup_privateuseone_for_python_backend,
)

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve()
NAME = "pretend"
DEVICE = f"{NAME}:0"
CPU = torch.device("cpu")

# Their results' shapes, or the results themselves, are known to the host only after the device is done.
WAITING = {
    "_local_scalar_dense",
    "_unique2",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
COPYING = {"_to_copy", "to"}  # the second in inference mode
INDEXING = {"_index_put_impl_", "index", "index_put", "index_put_"}
WITHOUT_KERNEL = {
    "_local_scalar_dense",
    "_reshape_alias",
    "_unsafe_view",
    "alias",
    "detach",
    "empty",
    "empty_like",
    "empty_strided",
    "lift_fresh",
    "new_empty",
    "new_empty_strided",
}


class PretendModule(_DummyBackendModule):
    """The module `torch.pretend`; outside a `PretendDevice` there is no such device."""

    def is_available(self) -> bool:
        return PretendDevice.current is not None

    def device_count(self) -> int:
        return int(self.is_available())

    def device(self, index: object) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: object = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: object = None) -> None:
        torch.set_rng_state(state)

    def initial_seed(self) -> int:
        return 0


class PretendHook(_DummyPrivateUse1Hook):
    def is_available(self) -> bool:
        return PretendDevice.current is not None


class OnDevice(Tensor):
    """A tensor on the pretend device; `inner` has its values, on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        self = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(DEVICE),
        )
        self.inner = inner
        return self

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, **_: Any) -> str:
        return f"OnDevice({self.inner!r})"

    def tolist(self) -> Any:  # torch's own asks for the memory itself
        PretendDevice.running().note_wait("tolist")
        return self.inner.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {DEVICE} tensor to numpy")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return PretendDevice.running().run(func, args, kwargs or {})


class PretendDevice(TorchDispatchMode):
    """Inside `with`, the device exists. `waits` are counted by (file:line, reason), `kernels` by operation.

    `handlers` compute operations that the CPU does not have, on the tensors with the values.
    """

    current: ClassVar[PretendDevice | None] = None

    def __init__(self, handlers: dict[str, Callable[..., Any]] | None = None) -> None:
        super().__init__()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.kernels: Counter[str] = Counter()
        self.handlers = handlers or {}
        self._pinned: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()
        self._contexts = contextlib.ExitStack()

    @classmethod
    def running(cls) -> PretendDevice:
        assert cls.current is not None, f"a tensor on {DEVICE} outside its device"
        return cls.current

    def __enter__(self) -> PretendDevice:
        register()
        assert PretendDevice.current is None, "there is one such device"
        PretendDevice.current = self
        self._only_cpu = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(…, device=…)` is made on the CPU and copied
        # The threads of torch's autograd do not know the mode.
        self._contexts.enter_context(torch.autograd.set_multithreading_enabled(False))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._contexts.close()
        torch._C._set_only_lift_cpu_tensors(self._only_cpu)
        PretendDevice.current = None

    def clear(self) -> None:
        self.waits.clear()
        self.kernels.clear()

    def note_wait(self, reason: str) -> None:
        self.waits[place(), reason] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        name = func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, Tensor)]
        device = kwargs.get("device")
        if name == "_pin_memory":
            return self._pin(args[0])
        if name == "is_pinned":
            return args[0].untyped_storage() in self._pinned
        ours = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
        is_here = bool(ours) if device is None else torch.device(device).type == NAME
        if not ours and not is_here:
            return func(*args, **kwargs)
        is_here = self._check(name, args, kwargs, tensors, is_here)
        if is_here and name not in WITHOUT_KERNEL and not makes_a_view(func):
            self.kernels[name] += 1
        return self._compute(func, args, kwargs, is_here)

    def _check(self, name: str, args: Any, kwargs: dict[str, Any], tensors: list[Tensor], is_here: bool) -> bool:
        """Whether the result is on the device. Note waits; raise RuntimeError for tensors on two devices."""
        strangers = [tensor for tensor in tensors if not isinstance(tensor, OnDevice)]
        if name in COPYING and is_here == bool(strangers):
            self._note_copy(args[0], kwargs.get("non_blocking", False), is_here)
            return is_here
        if name == "copy_":
            target, source = args[:2]
            if isinstance(target, OnDevice) != isinstance(source, OnDevice):
                self._note_copy(source, len(args) > 2 and args[2], isinstance(target, OnDevice))
            return isinstance(target, OnDevice)
        if name in WAITING:
            self.note_wait(name)
        if name in INDEXING:
            indices = [index for index in args[1] if isinstance(index, Tensor)]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self.note_wait("an index of booleans")
            for index in indices:
                if not isinstance(index, OnDevice) and isinstance(args[0], OnDevice):
                    self.note_wait("an index on the CPU")
                    strangers = [tensor for tensor in strangers if tensor is not index]
        if is_here:
            for stranger in strangers:
                if stranger.dim():
                    raise RuntimeError(
                        f"{name} at {place()}: expected all tensors on {DEVICE}, found one of shape "
                        f"{tuple(stranger.shape)} on {stranger.device}"
                    )
        return is_here and name != "_local_scalar_dense"

    def _note_copy(self, source: Tensor, is_free: bool, to_device: bool) -> None:
        if not to_device:
            self.note_wait("a copy to the CPU")
        elif not is_free or source.untyped_storage() not in self._pinned:
            self.note_wait("a copy from memory that is not pinned" if is_free else "a blocking copy from the CPU")

    def _compute(self, func: Any, args: Any, kwargs: dict[str, Any], is_here: bool) -> Any:
        owners = {id(leaf.inner): leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, OnDevice)}
        inner_args, inner_kwargs = tree_map_only(OnDevice, lambda tensor: tensor.inner, (args, kwargs))
        if inner_kwargs.get("device") is not None:
            inner_kwargs["device"] = CPU
        if inner_kwargs.get("pin_memory"):
            inner_kwargs["pin_memory"] = False
        function = self.handlers.get(func.overloadpacket.__name__, func)
        result = function(*inner_args, **inner_kwargs)
        if not is_here:
            return result

        def on_device(tensor: Tensor) -> Tensor:
            """What was computed in place is the tensor that was given."""
            return owners[id(tensor)] if id(tensor) in owners else OnDevice(tensor)

        return tree_map_only(Tensor, on_device, result)

    def _pin(self, tensor: Tensor) -> Tensor:
        pinned = tensor.clone()
        self._pinned.add(pinned.untyped_storage())
        return pinned


def register() -> None:
    """Make the device known to torch, once and for the whole process."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        _setup_privateuseone_for_python_backend(NAME, backend_module=PretendModule(), hook=PretendHook())


def makes_a_view(func: Any) -> bool:
    """Whether an operation gives another view of its argument, and computes nothing."""
    returns = func._schema.returns
    return bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write


def place() -> str:
    """The innermost line of the project that runs."""
    for frame in reversed(traceback.extract_stack()):
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and path != HERE and ".venv" not in path.parts:
            return f"{os.path.relpath(path, ROOT)}:{frame.lineno}"
    return "?"
