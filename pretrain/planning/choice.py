"""The largest micro-batch of each way to train, and which way to take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pretrain.planning.activations import Storage
from pretrain.planning.cards import Card
from pretrain.planning.checkpoint_size import CheckpointSize, checkpoint_size
from pretrain.planning.memory import STAGES, RankMemory, Zero, rank_memory, zero_of
from pretrain.planning.run_time import RunTime, run_time
from pretrain.planning.workload import Workload

# Of a card's memory; the rest is CUDA's own, NCCL's, and what is lost between blocks of different sizes.
USABLE = 0.9


@dataclass(frozen=True)
class Way:
    """A ZeRO stage with or without recomputed activations, at its largest micro-batch; `pairs` are those by kind."""

    zero: Zero
    recompute: bool
    accumulation: int
    pairs: dict[str, int]
    memory: RankMemory
    fits: bool
    time: RunTime
    checkpoints: CheckpointSize


@dataclass(frozen=True)
class Plan:
    """All ways, and the one to choose: None where none fits, or no ds_config is shipped for those that do."""

    workload: Workload
    card: Card
    gpus: int
    precision: str
    share_of_peak: float
    ways: Sequence[Way]
    choice: Way | None


def make_plan(workload: Workload, card: Card, gpus: int, wanted_precision: str, share_of_peak: float) -> Plan:
    """The plan of a workload on so many cards. Raises ValueError where a global batch does not divide by them."""
    precision = card.precision(wanted_precision)
    accumulations = possible_accumulations(workload, gpus)
    # ZeRO-3 cuts the weights that a momentum encoder follows into parts, so a run with one refuses it.
    stages = [stage for stage in STAGES if stage < 3 or not workload.parameters.momentum_bytes]
    ways = [
        way_of(
            workload,
            card,
            zero_of(stage, gpus, precision, workload.recipe.ds_config),
            recompute,
            accumulations,
            share_of_peak,
        )
        for stage in stages
        for recompute in (False, True)
    ]
    # Recomputing costs a third of the time and a higher stage only messages; of stages the lowest has the fewest.
    fitting = [way for way in ways if way.fits and way.zero.ds_config is not None]
    choice = min(fitting, key=lambda way: (way.recompute, way.zero.stage), default=None)
    return Plan(workload, card, gpus, precision, share_of_peak, ways, choice)


def possible_accumulations(workload: Workload, gpus: int) -> list[int]:
    """Numbers of accumulation steps that divide the pairs that a rank has of each kind in every part, from 1 on.

    What stays together is not cut. Raises ValueError where the GPUs do not divide a batch, or cut it so.
    """
    sizes = workload.recipe.batch_sizes(dict.fromkeys(name for part in workload.parts for name in part.kinds))
    if uneven := [name for name, size in sizes.items() if size.pairs % gpus]:
        raise ValueError(f"{' and '.join(uneven)} cannot be divided evenly by {gpus} GPUs; choose multiples of {gpus}")
    if cut := [f"{name}: {size.together}" for name, size in sizes.items() if size.pairs // gpus % size.together]:
        raise ValueError(
            f"contrast_pairs {workload.recipe.contrast_pairs}: {gpus} GPUs would cut apart pairs that stay together "
            f"({', '.join(cut)}); take fewer GPUs, larger batches or smaller groups"
        )
    shares = [size.pairs // gpus // size.together for size in sizes.values()]
    return [steps for steps in range(1, min(shares) + 1) if all(share % steps == 0 for share in shares)]


def way_of(
    workload: Workload, card: Card, zero: Zero, recompute: bool, accumulations: Sequence[int], share_of_peak: float
) -> Way:
    """The way with the fewest accumulation steps that fit, or with the most if none do."""
    storage = Storage(zero.number, recompute)
    for accumulation in accumulations:
        shares = zero.ranks * accumulation
        pairs = {name: kind.batch_pairs // shares for name, kind in workload.kinds.items()}
        memory = rank_memory(workload, zero, storage, pairs, accumulation)
        if fits := memory.total <= USABLE * card.memory:
            break
    time = run_time(workload, card, zero.precision, zero.ranks, share_of_peak, recompute)
    return Way(zero, recompute, accumulation, pairs, memory, fits, time, checkpoint_size(workload, zero))


def recipe_fragment(plan: Plan) -> str:
    """The choice as lines of a recipe, none where nothing fits."""
    if (way := plan.choice) is None:
        return ""
    pairs = ", ".join(f"{count} {kind}" for kind, count in way.pairs.items())
    share = way.memory.total / plan.card.memory
    longest = {name: kind.longest.length for name, kind in plan.workload.kinds.items()}
    tokens = max(2 * longest[name] * count for name, count in way.pairs.items())
    return "\n".join(
        [
            f"# {plan.gpus} x {plan.card.name}: micro-batches of {pairs} pairs, {share:.0%} of a card's memory",
            f"ds_config: {way.zero.ds_config}",
            f"activation_checkpointing: {str(way.recompute).lower()}",
            f"accumulation_steps: auto  # {way.accumulation} on {plan.gpus}",
            f"micro_batch_tokens: {tokens}",
            f"peak_tflops: {plan.card.peak_tflops[plan.precision]:g}",
        ]
    )
