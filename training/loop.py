"""The training loop that pre-training and fine-tuning share."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from training.engine.interface import Engine, Ranks
from training.engine.processes import lost_ranks_named
from training.guards import Guards, ignore_stop_signals
from training.meters import Meters
from training.random_order import mix
from training.recipe.base import TrainingRecipe
from training.step import Batch, CountFunction, LossFunction, StepContext, train_step

PREFETCHED = 4  # micro-batches that each loader process keeps ready


def micro_batches(dataset: Dataset, start: int, stop: int, num_workers: int) -> Iterator[Batch]:
    """Items `start` to `stop` of a map-style dataset whose items are whole micro-batches, read ahead in order."""
    return iter(
        DataLoader(
            dataset,
            batch_size=None,
            sampler=range(start, stop),
            num_workers=num_workers,
            prefetch_factor=PREFETCHED if num_workers else None,
            # Forking a process that already runs communication threads may hang.
            multiprocessing_context="spawn" if num_workers else None,
            worker_init_fn=ignore_stop_signals if num_workers else None,
        )
    )


def unnamed_source(first: int, part: int, rank: int) -> str:
    """What there is to say of a micro-batch whose samples have no names."""
    return f"micro-batch {first + part}"


def never_over(step: int, metrics: dict[str, float]) -> bool:
    """That no validation ends a run before its last update."""
    return False


def never_worth_keeping(step: int) -> bool:
    """That no validation asks for a checkpoint of its own."""
    return False


def fit(
    engine: Engine,
    recipe: TrainingRecipe,
    dataset: Dataset,
    data_fingerprint: str,
    kind_of: Callable[[int], str],
    loss_function: LossFunction,
    count_items: CountFunction,
    meters: Meters,
    guards: Guards,
    start_step: int,
    end_step: int,
    save: Callable[[int], None],
    validate: Callable[[], dict[str, float]] | None = None,
    source_of: Callable[[int, int, int], str] = unnamed_source,
    is_over: Callable[[int, dict[str, float]], bool] = never_over,
    is_worth_keeping: Callable[[int], bool] = never_worth_keeping,
) -> bool:
    """Whether training went from update `start_step` to its end; False when `guards` ended it before.

    `dataset[m]` is this rank's micro-batch m, of update m // accumulation steps. `kind_of` names the kind of batch of
    an update, `source_of(m, i, rank)` the samples of micro-batch m + i on a rank. `validate` runs every
    `recipe.validate_every` updates, or before each regular save, and returns what to note. The end is update
    `end_step`, or where `is_over(updates done, what was noted)` says so after a validation, on all ranks alike. A
    checkpoint is saved every `recipe.save_every` updates, at the end, when `guards` end the run, and after a validation
    of which `is_worth_keeping(updates done)` says so.
    """
    per_step = recipe.accumulation_steps
    check_ranks_agree(engine, checkpoint=start_step, recipe=recipe, data=data_fingerprint)
    batches = micro_batches(dataset, start_step * per_step, end_step * per_step, recipe.loader_workers)
    engine.model.train()  # from_pretrained gives models for evaluation, without dropout
    meters.restart_clock()
    for step in range(start_step, end_step):
        started = time.perf_counter()
        done = step + 1
        with meters.waiting():
            group = [next(batches) for _ in range(per_step)]
        # Dropout, too, is a function of (seed, step, rank), so there is no random state to save.
        torch.manual_seed(mix(recipe.seed, step, engine.rank))
        kind = kind_of(step)
        context = StepContext(
            where=f"update {done}, {kind} batch",
            source_of=partial(source_of, step * per_step),
            is_spike=partial(guards.is_spike, kind),
            wants_to_stop=guards.wants_to_stop(),
        )
        with lost_ranks_named(context.where):
            metrics = train_step(engine, group, loss_function, count_items, context)
            guards.note_duration("update", time.perf_counter() - started)
            if metrics.skipped:
                meters.event(done, "skipped", {f"{kind}/{name}": value for name, value in metrics.losses.items()})
            else:
                meters.record(done, kind, metrics)
        is_end, is_kept = done == end_step, False
        if validate is not None and (is_end or done % (recipe.validate_every or recipe.save_every) == 0):
            with lost_ranks_named(f"validation after update {done}"):
                noted = validate()
            meters.event(done, "valid", noted)
            meters.restart_clock()
            is_end = is_over(done, noted) or is_end
            is_kept = is_worth_keeping(done)
        if done % recipe.save_every == 0 or is_end or is_kept or metrics.wants_to_stop:
            started = time.perf_counter()
            with lost_ranks_named(f"saving update {done}"):
                save(done)
            guards.note_duration("save", time.perf_counter() - started)
            meters.restart_clock()
        if is_end:
            return True
        if metrics.wants_to_stop:
            return False
    return True


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
    """Make what is drawn next on this rank (initial weights) the same on every rank."""
    torch.manual_seed(mix(seed))


def describe_run(facts: dict[str, Any]) -> str:
    """One line about a run for its start."""
    return " | ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in facts.items()
    )
