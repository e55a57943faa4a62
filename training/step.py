"""One training step: forward, losses, backward, check, update. The same for every task and every engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from training.engine.interface import Engine

MOST_SOURCES = 4  # micro-batches of an update that a message names one by one

# Tensors, and what travels to a device as they do: it has `to` and `pin_memory`.
Batch = dict[str, Any]
# The terms of a batch's loss, each a share of its global mean: sums over this batch / `num_items` of the global batch.
LossFunction = Callable[[nn.Module, Batch, Tensor], dict[str, Tensor]]
# The numbers of predicted items of a batch by which the loss function divides, a small tensor.
CountFunction = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class StepMetrics:
    """The results of one update. `losses` are global means; `num_tokens` are the global batch's, without padding.

    `skipped`: the update was skipped; `wants_to_stop`: some rank asked to end the run after it.
    """

    losses: dict[str, float]
    grad_norm: float | None
    learning_rate: float
    num_tokens: int
    skipped: bool = False
    wants_to_stop: bool = False

    @property
    def loss(self) -> float:
        return sum(self.losses.values())


@dataclass(frozen=True)
class StepContext:
    """Context of a step: its name, the names of its samples, and when to skip it or to stop.

    `where` names the update. `source_of(accumulation step, rank)` names the samples of a micro-batch, on any rank.
    `is_spike` is given the update's loss and decides whether the update is skipped, so it must answer alike on all
    ranks. `wants_to_stop` is this rank's wish.
    """

    where: str
    source_of: Callable[[int, int], str] = lambda accumulation_step, rank: f"accumulation step {accumulation_step}"
    is_spike: Callable[[float], bool] = lambda loss: False
    wants_to_stop: bool = False


def count_tokens(batch: Batch) -> Tensor:
    """Real tokens (1,) of a batch's sequences and of those paired with them."""
    masks = [batch[name] for name in ("attention_mask", "pair_attention_mask") if name in batch]
    return torch.stack([mask.sum() for mask in masks]).sum().reshape(1)


def train_step(
    engine: Engine,
    micro_batches: Sequence[Batch],
    loss_function: LossFunction,
    count_items: CountFunction,
    context: StepContext,
    count_tokens: CountFunction = count_tokens,
) -> StepMetrics:
    """Metrics of one update over the micro-batches of this rank.

    Every term of the loss is sum_r sum_a (sum over rank r's micro-batch a) / N with N the items of all ranks and
    micro-batches, so the result does not depend on how the global batch is split. Raises FloatingPointError, on all
    ranks and before the weights change, when a loss or the gradient is not finite.
    """
    counts = torch.stack([torch.cat([count_items(b), count_tokens(b)]) for b in micro_batches]).sum(dim=0)
    # The wish to stop travels with the counts: a reduction of its own would cost time in every update.
    votes = counts.new_tensor([int(context.wants_to_stop)])
    told = engine.sum_over_ranks(on_device({"told": torch.cat([counts, votes])}, engine.device)["told"])
    num_items = told[:-2]
    totals: dict[str, Tensor] = {}
    micro_losses = []
    for number, batch in enumerate(micro_batches, start=1):
        with engine.forward_context():
            losses = loss_function(engine.model, on_device(batch, engine.device), num_items)
        loss = torch.stack(list(losses.values())).sum()
        micro_losses.append(loss.detach())
        for name, term in losses.items():
            totals[name] = totals.get(name, torch.zeros((), device=engine.device)) + term.detach().float()
        if number == len(micro_batches):
            reduced = engine.sum_over_ranks(torch.stack(list(totals.values())))
            # Here alone, and once, the host waits for the device: float64 holds losses and counts exactly.
            *known, num_tokens, num_votes = torch.cat([reduced.double(), told[-2:].double()]).tolist()
            values = dict(zip(totals, known, strict=True))
            if not all(map(math.isfinite, values.values())):
                raise_broken_loss(engine, values, micro_losses, context)
            if skipped := context.is_spike(sum(values.values())):
                engine.skip(loss)
                break
        engine.backward(loss)
        try:
            engine.step()
        except FloatingPointError as error:
            sources = sources_of(context, len(micro_batches), engine.world_size)
            raise FloatingPointError(f"{context.where}: {error}; it is the sum over {sources}") from None
    return StepMetrics(
        losses=values,
        grad_norm=None if skipped else engine.grad_norm(),
        learning_rate=engine.learning_rate(),
        num_tokens=int(num_tokens),
        skipped=skipped,
        wants_to_stop=bool(num_votes),
    )


def on_device(batch: Batch, device: torch.device) -> Batch:
    """A batch on a device. It goes to an accelerator by way of pinned memory, so that nothing waits for the copy."""
    if device.type == "cpu":
        return batch
    return {name: value.pin_memory().to(device, non_blocking=True) for name, value in batch.items()}


def sources_of(context: StepContext, num_parts: int, world_size: int) -> str:
    """The samples of a global batch in words, of the first and the last micro-batch alone where there are many."""
    places = [(part, rank) for part in range(num_parts) for rank in range(world_size)]
    shown = places if len(places) <= MOST_SOURCES else [places[0], places[-1]]
    told = [f"rank {rank}: {context.source_of(part, rank)}" for part, rank in shown]
    return "; ".join(told) if shown is places else " to ".join(told)


def raise_broken_loss(
    engine: Engine, values: dict[str, float], micro_losses: Sequence[Tensor], context: StepContext
) -> NoReturn:
    """Raise FloatingPointError that names the micro-batches whose loss is not finite; every rank calls it."""
    broken = torch.zeros(engine.world_size, dtype=torch.int64, device=engine.device)
    finite = torch.stack(list(micro_losses)).isfinite().tolist()
    if not all(finite):
        broken[engine.rank] = finite.index(False) + 1
    sources = [
        f"rank {rank}: {context.source_of(number - 1, rank)}"
        for rank, number in enumerate(engine.sum_over_ranks(broken).tolist())
        if number
    ]
    told = ", ".join(f"{name} {value}" for name, value in values.items())
    raise FloatingPointError(
        f"{context.where}: the loss is not finite ({told}; {'; '.join(sources) or 'only in the sum over ranks'}); "
        "the weights were not changed"
    )
