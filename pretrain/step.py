"""One training step: forward, losses, backward, check, update. The same for every task and every engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pretrain.engine import Engine

Batch = dict[str, Tensor]
# The terms of a batch's loss, each a share of its global mean: sums over this batch / `num_items` of the global batch.
LossFunction = Callable[[nn.Module, Batch, Tensor], dict[str, Tensor]]
# The numbers of predicted items of a batch by which the loss function divides, a small tensor.
CountFunction = Callable[[Batch], Tensor]


@dataclass(frozen=True)
class StepMetrics:
    """What one update did. `losses` are global means; `num_tokens` are the global batch's, without padding."""

    losses: dict[str, float]
    grad_norm: float | None
    learning_rate: float
    num_tokens: int

    @property
    def loss(self) -> float:
        return sum(self.losses.values())


def train_step(
    engine: Engine, micro_batches: Sequence[Batch], loss_function: LossFunction, count_items: CountFunction, where: str
) -> StepMetrics:
    """Metrics of one update over the micro-batches of this rank.

    Every term of the loss is sum_r sum_a (sum over rank r's micro-batch a) / N with N the items of all ranks and
    micro-batches, so the result does not depend on how the global batch is split. Raises RuntimeError, on all ranks
    and before the weights change, when a loss is not finite; `where` says which batch it was.
    """
    counts = torch.stack([torch.cat([count_items(b), count_tokens(b)]) for b in micro_batches]).sum(dim=0)
    *items, num_tokens = engine.sum_over_ranks(counts.to(engine.device))
    num_items = torch.stack(items)
    totals: dict[str, Tensor] = {}
    for number, batch in enumerate(micro_batches, start=1):
        on_device = {name: tensor.to(engine.device, non_blocking=True) for name, tensor in batch.items()}
        with engine.forward_context():
            losses = loss_function(engine.model, on_device, num_items)
        engine.backward(torch.stack(list(losses.values())).sum())
        for name, loss in losses.items():
            totals[name] = totals.get(name, torch.zeros((), device=engine.device)) + loss.detach().float()
        if number == len(micro_batches):
            reduced = engine.sum_over_ranks(torch.stack(list(totals.values())))
            values = dict(zip(totals, reduced.tolist(), strict=True))
            if not all(map(math.isfinite, values.values())):
                local = {name: loss.item() for name, loss in totals.items()}
                raise RuntimeError(
                    f"{where}: loss is not finite ({values}, {local} here); the weights were not changed"
                )
        engine.step()
    return StepMetrics(values, engine.grad_norm(), engine.learning_rate(), int(num_tokens))


def count_tokens(batch: Batch) -> Tensor:
    """Real tokens (1,) of the inputs that a batch holds once: x and y, not their repetition in TLM."""
    masks = [batch[name] for name in ("attention_mask", "pair_attention_mask") if name in batch]
    return torch.stack([mask.sum() for mask in masks]).sum().reshape(1)
