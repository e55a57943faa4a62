"""The momentum encoders of a run's objectives: begun or resumed, kept up with the updates, and saved.

CHECKPOINT/momentum.safetensors    their weights and queues, which are the same on all ranks
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from data_tools.cli import one_line
from pretrain.batches import PretrainingBatches
from pretrain.micro_batch import PACKED, SAMPLES
from training.engine.interface import Engine
from training.launch import tell
from training.step import on_device
from veco import VecoForPreTraining
from veco.objectives.objective import Objective
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.shared.momentum import Momentum, MomentumModule
from veco.objectives.states import Batch
from veco.rust_errors import rust_errors_as_oserrors
from veco.views import views_of

FILE = "momentum.safetensors"


def modules_with_momentum(model: VecoForPreTraining) -> dict[str, MomentumModule]:
    """The modules that may have a momentum encoder, by objective."""
    modules = dict(model.objective_modules.items())
    return {name: module for name, module in modules.items() if isinstance(module, MomentumModule)}


def begin(
    model: VecoForPreTraining,
    engine: Engine,
    objective: ObjectiveSum,
    checkpoint: Path | None,
    open_batches: Callable[[], PretrainingBatches],
) -> None:
    """Give a model the momentum encoders that its objective has in a phase; every rank calls it.

    They go on if they are there; or are those of the checkpoint, if it has some; or are copies of the encoder, with
    queues filled from the batches. One that the phase has no use for ends.
    """
    saved = None if checkpoint is None else checkpoint / FILE
    parts = {part.name: part for part in objective}
    for name, module in modules_with_momentum(model).items():
        part = parts.get(name)
        if part is None:
            module.momentum = None
        if part is None or module.momentum is not None:
            continue
        momentum = module.begin(model.veco)
        if saved is not None and saved.is_file():
            momentum.load(read(saved, name))
        else:
            fill(momentum, part, model, engine, open_batches())
            tell(f"{name}: the queue holds {module.queue:,} vectors of the encoder as the run begins")


def read(path: Path, objective: str) -> dict[str, Tensor]:
    """The tensors of an objective's momentum encoder in a file. Raises ValueError where there are none."""
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: expected the momentum encoders of a checkpoint ({one_line(error)})") from None
    prefix = f"{objective}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def fill(
    momentum: Momentum, part: Objective, model: VecoForPreTraining, engine: Engine, batches: PretrainingBatches
) -> None:
    """Fill the queue of a part with the vectors of the first batches of its kinds; every rank calls it."""
    filled, size = 0, len(momentum.queue_QD)
    with tqdm(desc="filling the queue", total=size, disable=None if engine.rank == 0 else True) as progress:
        for group in updates_of_kinds(batches, part.kinds):
            micro_batches = (on_device(batches[number], engine.device) for number in group)
            keys = [key_vectors(momentum, part.momentum_view, model, engine, batch) for batch in micro_batches]
            in_order = of_all_ranks(keys, engine)
            momentum.enqueue(in_order)
            filled += len(in_order)
            progress.update(len(in_order))
            if filled >= size:
                return


def updates_of_kinds(batches: PretrainingBatches, kinds: Collection[str]) -> Iterator[range]:
    """The numbers of a rank's micro-batches in each update of these kinds, without end."""
    step = 0
    while True:
        if batches.kind_of(step) in kinds:
            first = step * batches.accumulation_steps
            yield range(first, first + batches.accumulation_steps)
        step += 1


def key_vectors(
    momentum: Momentum, view: str, model: VecoForPreTraining, engine: Engine, batch: dict[str, Any]
) -> Tensor:
    """The key vectors (R, D) of a view of a micro-batch."""
    views = views_of({name: of for name, of in batch.items() if name not in (PACKED, SAMPLES)})
    with torch.no_grad(), engine.forward_context():
        return momentum.vectors(Batch.of(model.veco, model.lm_head, batch[PACKED], views), view)


def of_all_ranks(keys: list[Tensor], engine: Engine) -> Tensor:
    """The vectors (R, D) of an update's micro-batches on all ranks, in the order of their samples."""
    own = torch.stack(keys)
    shared = own.new_zeros(len(keys), engine.world_size, *own.shape[1:])
    shared[:, engine.rank] = own
    return engine.sum_over_ranks(shared).flatten(0, 2)


def after_update(model: VecoForPreTraining, engine: Engine) -> None:
    """Let the momentum encoders follow an update, and their queues take its keys; every rank calls it."""
    for module in modules_with_momentum(model).values():
        if module.momentum is None:
            continue
        module.after_update(model.veco)
        momentum = module.momentum
        if momentum.keys:
            momentum.enqueue(of_all_ranks(momentum.keys, engine))
            momentum.keys.clear()


def save(model: VecoForPreTraining, directory: Path) -> None:
    """Write the momentum encoders into a checkpoint's directory, if there are some."""
    tensors = {
        f"{name}.{tensor}": value.contiguous()
        for name, module in modules_with_momentum(model).items()
        if module.momentum is not None
        for tensor, value in module.momentum.tensors().items()
    }
    if tensors:
        with rust_errors_as_oserrors(directory / FILE):
            save_file(tensors, directory / FILE)
