"""The training loop that pre-training and fine-tuning share."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from pretrain.engine import Engine, lost_ranks_named
from pretrain.guards import Guards, ignore_stop_signals
from pretrain.meters import Meters
from pretrain.recipe import TrainingRecipe
from pretrain.sampling import mix
from pretrain.step import Batch, CountFunction, LossFunction, StepContext, train_step

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
) -> bool:
    """Whether training went from update `start_step` to `end_step`; False when `guards` ended it before.

    `dataset[m]` is this rank's micro-batch m, of update m // accumulation steps. `kind_of` names the kind of batch of
    an update, `source_of(m, i, rank)` the samples of micro-batch m + i on a rank. `validate` runs every
    `recipe.validate_every` updates, or before each regular save, and returns what to note. A checkpoint is saved every
    `recipe.save_every` updates, at the end and when `guards` end the run.
    """
    per_step = recipe.accumulation_steps
    check_ranks_agree(engine, start_step, end_step, recipe, data_fingerprint)
    batches = micro_batches(dataset, start_step * per_step, end_step * per_step, recipe.loader_workers)
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
        is_end = done == end_step
        if validate is not None and (is_end or done % (recipe.validate_every or recipe.save_every) == 0):
            meters.event(done, "valid", validate())
            meters.restart_clock()
        if done % recipe.save_every == 0 or is_end or metrics.wants_to_stop:
            started = time.perf_counter()
            with lost_ranks_named(f"saving update {done}"):
                save(done)
            guards.note_duration("save", time.perf_counter() - started)
            meters.restart_clock()
        if metrics.wants_to_stop and not is_end:
            return False
    return True


def check_ranks_agree(engine: Engine, *facts: object) -> None:
    """Raise ValueError, naming the ranks, when their `facts` differ: they would wait for each other for ever."""
    seen = torch.zeros(engine.world_size, dtype=torch.int64, device=engine.device)
    digest = hashlib.sha256(repr(facts).encode()).digest()
    seen[engine.rank] = int.from_bytes(digest[:8], "big") >> 1  # fits into a signed integer
    digests = engine.sum_over_ranks(seen).tolist()
    different = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if different:
        raise ValueError(
            f"ranks {different} differ from rank 0 in checkpoint, recipe or data; do all nodes see the same?"
        )


def seed_everything(seed: int) -> None:
    """Make what is drawn next on this rank (initial weights) the same on every rank."""
    torch.manual_seed(mix(seed))


def describe_run(facts: dict[str, Any]) -> str:
    """One line about a run for its start."""
    return " | ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in facts.items()
    )
