"""The training loop that pre-training and fine-tuning share."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch.utils.data import DataLoader, Dataset

from training.engine.interface import Engine, Ranks
from training.engine.processes import lost_ranks_named
from training.guards import Guards, ignore_stop_signals
from training.meters import Meters
from training.random_order import mix
from training.recipe.base import TrainingRecipe
from training.step import Batch, StepContext, train_step
from training.task import Trainable

CPU = torch.device("cpu")
PREFETCHED = 4  # micro-batches that each loader process keeps ready


def micro_batches(
    dataset: Dataset, start: int, stop: int, num_workers: int, device: torch.device = CPU
) -> Iterator[Batch]:
    """Items `start` to `stop` of a map-style dataset whose items are whole micro-batches, read ahead in order.

    They are on the CPU, but for another `device` in pinned memory, from which copies need no waiting.
    """
    return iter(
        DataLoader(
            dataset,
            batch_size=None,
            sampler=range(start, stop),
            num_workers=num_workers,
            pin_memory=device.type != "cpu",
            prefetch_factor=PREFETCHED if num_workers else None,
            # Forking a process that already runs communication threads may hang.
            multiprocessing_context="spawn" if num_workers else None,
            worker_init_fn=ignore_stop_signals if num_workers else None,
        )
    )


def never_over(step: int, metrics: Mapping[str, float]) -> bool:
    """Whether a validation ends a run before its last update: never."""
    return False


def never_worth_keeping(step: int) -> bool:
    """Whether a validation asks for a checkpoint of its own: never."""
    return False


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Functions that the loop calls between updates, on every rank alike.

    `save(updates done)` makes a checkpoint. `validate` returns the metrics to note. After a validation
    `is_over(updates done, metrics)` may end the run, and `is_worth_keeping(updates done)` may ask for a checkpoint.
    """

    save: Callable[[int], None]
    validate: Callable[[], dict[str, float]] | None = None
    is_over: Callable[[int, Mapping[str, float]], bool] = never_over
    is_worth_keeping: Callable[[int], bool] = never_worth_keeping


def fit(
    engine: Engine,
    recipe: TrainingRecipe,
    trainable: Trainable,
    updates: range,
    *,
    hooks: Hooks,
    meters: Meters,
    guards: Guards,
) -> bool:
    """Train for `updates`, numbered from 0. Returns whether it finished; False when `guards` stopped it.

    Micro-batch m of `trainable` belongs to update m // accumulation steps. A validation follows every
    `recipe.validate_every` updates, or precedes each regular save. A checkpoint is saved every `recipe.save_every`
    updates, at the end, when `guards` stop the run, and where a hook asks for it.
    """
    check_ranks_agree(engine, checkpoint=updates.start, recipe=recipe, data=trainable.fingerprint)
    per_step = recipe.accumulation_steps
    dataset = trainable.batches(engine.rank, engine.world_size)
    numbers = updates.start * per_step, updates.stop * per_step
    batches = micro_batches(dataset, *numbers, recipe.loader_workers, engine.device)
    engine.model.train()  # from_pretrained gives models for evaluation, without dropout
    meters.restart_clock()
    for step in updates:
        wants_to_stop = make_update(engine, recipe, trainable, step, batches, meters=meters, guards=guards)
        done = step + 1
        is_end, is_kept = done == updates.stop, False
        if hooks.validate is not None and (is_end or done % (recipe.validate_every or recipe.save_every) == 0):
            with lost_ranks_named(f"validation after update {done}"):
                noted = hooks.validate()
            meters.event(done, "valid", noted)
            meters.restart_clock()
            is_end = hooks.is_over(done, noted) or is_end
            is_kept = hooks.is_worth_keeping(done)
        if done % recipe.save_every == 0 or is_end or is_kept or wants_to_stop:
            started = time.perf_counter()
            with lost_ranks_named(f"saving update {done}"):
                hooks.save(done)
            guards.note_duration("save", time.perf_counter() - started)
            meters.restart_clock()
        if is_end:
            return True
        if wants_to_stop:
            return False
    return True


def make_update(
    engine: Engine,
    recipe: TrainingRecipe,
    trainable: Trainable,
    step: int,
    batches: Iterator[Batch],
    *,
    meters: Meters,
    guards: Guards,
) -> bool:
    """Make update `step`, from 0, with the next of this rank's `batches`; whether some rank asks to stop after it."""
    started = time.perf_counter()
    per_step = recipe.accumulation_steps
    with meters.waiting():
        group = [next(batches) for _ in range(per_step)]
    # Dropout, too, is a function of (seed, step, rank), so there is no random state to save.
    torch.manual_seed(mix(recipe.seed, step, engine.rank))
    kind = trainable.kind_of(step)
    context = StepContext(
        where=f"update {step + 1}, {kind} batch",
        source_of=lambda part, rank: trainable.source_of(step * per_step + part, rank),
        is_spike=partial(guards.is_spike, kind),
        wants_to_stop=guards.wants_to_stop(),
    )
    with lost_ranks_named(context.where):
        metrics = train_step(
            engine, group, trainable.loss, trainable.count_items, context, count_tokens=trainable.count_tokens
        )
        trainable.after_update(engine)
        guards.note_duration("update", time.perf_counter() - started)
        if metrics.skipped:
            meters.event(step + 1, "skipped", {f"{kind}/{name}": value for name, value in metrics.losses.items()})
        else:
            meters.record(step + 1, kind, metrics)
    return metrics.wants_to_stop


def check_ranks_agree(ranks: Ranks, **facts: object) -> None:
    """Raise ValueError, naming ranks and facts, when `facts` differ: the ranks would wait for each other for ever."""
    seen = torch.zeros(ranks.world_size, len(facts), dtype=torch.int64, device=ranks.device)
    for column, fact in enumerate(facts.values()):
        digest = hashlib.sha256(repr(fact).encode()).digest()
        seen[ranks.rank, column] = int.from_bytes(digest[:8], "big") >> 1  # fits into a signed integer
    digests = ranks.sum_over_ranks(seen)
    differs = digests.ne(digests[0])
    if differs.any():
        others = differs.any(dim=1).nonzero().flatten().tolist()
        names = [name for name, is_other in zip(facts, differs.any(dim=0).tolist(), strict=True) if is_other]
        raise ValueError(f"ranks {others} differ from rank 0 in {', '.join(names)}; do all nodes see the same?")


def seed_everything(seed: int) -> None:
    """Make the next random draws (initial weights) the same on every rank."""
    torch.manual_seed(mix(seed))
