"""The undocumented parts of DeepSpeed that we use, behind one class. Tested with DeepSpeed 0.19.8.

Another version may have renamed or changed any of it: tests/integration/test_zero3.py and test_resume.py, with the slow
tests, tell. Patches last as long as a `with`, and are undone also after an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import distributed_c10d

from training.checkpoints.resharding import MOMENTS, WEIGHTS, StoredTraining
from training.checkpoints.stored_tensors import StoredTensor
from training.engine.adam import step_of, trained_parameters

SHARED_MEMORY_OP = "deepspeed_shm_comm"


@contextlib.contextmanager
def without_shared_memory_op(deepspeed: Any) -> Iterator[None]:
    """Keep DeepSpeed from compiling a shared-memory collective for half a minute; training goes through gloo."""
    compatible = deepspeed.ops.__compatible_ops__
    before = dict(compatible)
    compatible[SHARED_MEMORY_OP] = False
    try:
        yield
    finally:
        compatible.clear()
        compatible.update(before)


def give_up_after(seconds: int) -> None:
    """Let collectives of all process groups fail when another rank does not come for so long.

    DEEPSPEED_TIMEOUT is for the first group alone; gradients go through others, which have torch's own 10 minutes with
    NCCL and 30 with gloo.
    """
    for group in list(distributed_c10d._world.pg_map):
        distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), group)


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an object another value of an attribute for the time inside."""
    had_own, before = name in vars(owner), getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before) if had_own else delattr(owner, name)


class DeepSpeedInternals:
    """The undocumented side of one engine of DeepSpeed."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    @contextlib.contextmanager
    def files_written_by(self, write: Callable[[Any, str], None]) -> Iterator[None]:
        """Let the engine's saves write each file of tensors by `write(state_dict, path)`, and no other file.

        DeepSpeed would leave a script beside the checkpoints with each save; pretrain.export does its work.
        """
        with (
            replaced(self.engine, "_copy_recovery_script", lambda save_path: None),
            replaced(self.engine.checkpoint_engine, "save", write),
        ):
            yield

    def loss_scale_kept(self) -> contextlib.AbstractContextManager:
        """Let an update of a 16-bit engine end as it may: it changes neither the loss scale nor what that waits for."""
        return replaced(self.engine.optimizer, "_update_scale", lambda has_overflow: None)

    def count_skipped_micro_step(self) -> None:
        """Count a micro-step that the engine has not seen, so that it closes the next update in time."""
        self.engine.micro_steps += 1

    def set_updates_made(self, count: int) -> None:
        """Tell the engine how many updates were made before it was built."""
        self.engine.global_steps = count

    def free(self) -> None:
        """Give back the memory of the optimizers and, under ZeRO-3, of the weights.

        Hooks keep engine and model alive after its `destroy`, under ZeRO-3 for good. Otherwise the weights are the
        model's own, and stay.
        """
        kept = {id(parameter) for parameter in self.engine.module.parameters()}
        owned = [vars(owner) for owner in (self.engine.optimizer, self.engine.basic_optimizer) if owner is not None]
        for tensor in tensors_in(owned):
            if id(tensor) not in kept:
                tensor.data = tensor.data.new_empty(0)
        self.engine.basic_optimizer.state.clear()
        parameter: Any  # DeepSpeed adds attributes
        for parameter in self.engine.module.parameters():
            parameter.grad = None
            if self.engine.zero_optimization_partition_weights():
                for tensor in (parameter, parameter.ds_tensor):
                    tensor.data = tensor.data.new_empty(0)

    def full_state_dict(self) -> dict[str, Tensor]:
        """All weights of the model, under ZeRO-3 on rank 0 alone; every rank calls it."""
        if self.engine.zero_optimization_partition_weights():
            return self.engine._zero3_consolidated_16bit_state_dict()
        return self.engine.module.state_dict()

    def set_sharded_state(self, module: nn.Module, stored: StoredTraining, rank: int) -> None:
        """Set the float32 weights and Adam's state of this rank's parts; the model's own weights are right already."""
        is_partitioned = self.engine.zero_optimization_partition_weights()
        self._make_adam_state(stored.adam_step, is_partitioned)
        parameter: Any  # DeepSpeed adds attributes
        for name, parameter in trained_parameters(module):
            for kind, tensors in stored.tensors.items():
                key = None if kind == WEIGHTS else kind
                if is_partitioned:
                    part = own_part(tensors[name], parameter, rank)
                    self.engine.optimizer.set_local_hp_param(part, parameter, key)
                else:
                    parameter.set_full_hp_param(tensors[name].read(), key)

    def _make_adam_state(self, adam_step: int, is_partitioned: bool) -> None:
        """Make the state that Adam's first update would make, of its parameters: this rank's numbers, flat."""
        optimizer, adam = self.engine.optimizer, self.engine.basic_optimizer
        own_rows = [row for group in adam.param_groups for row in group["params"]]
        is_torch = type(adam).__module__.startswith("torch.")  # DeepSpeed's own kernels count with an int
        for row in optimizer.fp32_partitioned_groups_flat if is_partitioned else own_rows:
            step = step_of(row, adam_step) if is_torch else adam_step
            adam.state[row] = {"step": step, **{kind: torch.zeros_like(row) for kind in MOMENTS}}
        if not is_partitioned:
            optimizer._lazy_init_hp_params_optimizer_state()
        for group in adam.param_groups:
            if "step" in group:
                group["step"] = adam_step


def tensors_in(values: object) -> Iterator[Tensor]:
    """The tensors in lists, tuples and dicts, however deep, also those among the keys."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for both in values.items():
            yield from tensors_in(both)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)


def own_part(tensor: StoredTensor, parameter: Any, rank: int) -> Tensor:
    """A rank's part of a tensor under ZeRO-3: all ranks have equally much, the last ones padded with zeros."""
    size = parameter.ds_tensor.numel()
    start = min(rank * size, tensor.count)
    stop = min(start + size, tensor.count)
    part = torch.zeros(size)
    if start < stop:
        part[: stop - start] = tensor.read_flat(start, stop)
    return part
