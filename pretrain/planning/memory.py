"""Memory of a rank by part, as DeepSpeed's ZeRO stages and torch's fused AdamW need it, at its largest moment.

With n ranks and 16-bit weights a rank keeps for each parameter 2 bytes of weights, 4 of float32 weights and 8 of Adam's
two moments, and gradients of 2 or 4 bytes; each stage cuts more of it into n parts: 1 the float32 weights and moments,
2 the gradients, 3 the weights (ZeRO, Rajbhandari et al., 2020, section 5). Buffers are those of deepspeed 0.19.8.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pretrain.planning.activations import FLOAT32, MicroStep, Storage, micro_step
from pretrain.planning.parameters import Parameters
from pretrain.planning.workload import Workload
from training.recipe.ds_config import DS_CONFIGS, HALVES, read_ds_config

ADAM = 8
STAGES = (0, 1, 2, 3)
# Numbers, where a ds_config does not say otherwise (deepspeed/runtime/zero/config.py).
BUCKET, LIVE_PARAMETERS = 5e8, 1e9
REDUCED_AT_A_TIME = 5e8  # numbers that stage 1 in bfloat16 sums over ranks at once (deepspeed/runtime/engine.py)


@dataclass(frozen=True)
class Zero:
    """A ZeRO stage on a number of ranks, in a precision, with the buffers of its ds_config.

    `ds_config` is None where none is shipped for it.
    """

    stage: int
    ranks: int
    precision: str
    ds_config: str | None
    bucket: float = BUCKET
    live_parameters: float = LIVE_PARAMETERS
    overlaps: bool = False
    sent_bytes: int = 2  # of a gradient on its way to other ranks

    @property
    def number(self) -> int:
        """Bytes of a weight in the products."""
        return 2 if self.precision in HALVES else FLOAT32


@dataclass(frozen=True)
class RankMemory:
    """Bytes of one rank by part, at the `moment` at which they are most."""

    moment: str
    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    buffers: float
    other_models: float  # a teacher, momentum encoders with their queues

    @property
    def total(self) -> float:
        return sum(vars(self)[part] for part in PARTS)


PARTS = tuple(field.name for field in dataclasses.fields(RankMemory) if field.name != "moment")


def zero_of(stage: int, ranks: int, precision: str, preferred: str) -> Zero:
    """A stage with the settings of the ds_config that is shipped for it; `preferred` where that is one of them."""
    names = [path.name for path in sorted(DS_CONFIGS.glob("*.json"), key=lambda path: (len(path.name), path.name))]
    fitting = [name for name in [preferred, *names] if serves(read_ds_config(name), stage, precision)]
    if not fitting:
        return Zero(stage, ranks, precision, None, sent_bytes=2 if precision in HALVES else FLOAT32)
    config = read_ds_config(fitting[0])
    zero = config.get("zero_optimization", {})
    sent = config.get("communication_data_type", precision)
    return Zero(
        stage,
        ranks,
        precision,
        fitting[0],
        bucket=zero.get("reduce_bucket_size", BUCKET),
        live_parameters=zero.get("stage3_max_live_parameters", LIVE_PARAMETERS),
        overlaps=zero.get("overlap_comm", stage == 3),
        sent_bytes=FLOAT32 if sent in ("fp32", "float32") else 2,
    )


def serves(config: Mapping[str, Any], stage: int, precision: str) -> bool:
    """Whether a ds_config is of that stage and precision, with everything on the card."""
    zero = config.get("zero_optimization", {})
    halves = [name for name in HALVES if config.get(name, {}).get("enabled")]
    offloads = any(name.startswith("offload") for name in zero)
    return zero.get("stage", 0) == stage and (halves or ["float32"])[0] == precision and not offloads


def rank_memory(
    workload: Workload, zero: Zero, storage: Storage, pairs: Mapping[str, int], accumulation: int
) -> RankMemory:
    """Memory of a rank whose micro-batches hold `pairs` pairs of each kind, all of their rows at their longest."""
    steps = [
        micro_step(workload.config, kind.longest, pairs[name], storage, workload.teacher)
        for name, kind in workload.kinds.items()
    ]
    found = [largest(workload.parameters, zero, step, accumulation) for step in steps]
    return max(found, key=lambda memory: memory.total)


def largest(parameters: Parameters, zero: Zero, step: MicroStep, accumulation: int) -> RankMemory:
    """The moment of an update that needs most."""
    count = parameters.trained
    share = 1 / zero.ranks if zero.stage else 1.0
    weights = zero.number * parameters.model * (share if zero.stage == 3 else 1)
    others = zero.number * parameters.taught_by + parameters.momentum_bytes
    has_master = zero.stage > 0 or zero.number < FLOAT32
    optimizer = (has_master * FLOAT32 + ADAM) * count * share
    begin, end, at_update = gradient_bytes(zero, parameters, accumulation)
    buffers, of_update = buffer_bytes(zero, parameters)
    moments: dict[str, tuple[float, float, float, float]] = {  # gradients, activations, logits, buffers
        "vocabulary": (begin, step.kept, step.logits, buffers),
        "pass without gradient": (begin, step.kept + step.without_gradient, 0, buffers),
        "first layer": (begin, step.kept + step.first_layer, 0, buffers),
        "H layer": (end, step.kept + step.h_layer, 0, buffers),
        "update": (at_update, 0, 0, of_update),
    }
    found = [
        RankMemory(moment, weights, gradients, optimizer, activations, logits, buffered, others)
        for moment, (gradients, activations, logits, buffered) in moments.items()
    ]
    return max(found, key=lambda memory: memory.total)


def gradient_bytes(zero: Zero, parameters: Parameters, accumulation: int) -> tuple[float, float, float]:
    """Gradients at the beginning and at the end of the backward pass, and at Adam's update.

    What a rank sums up is float32, and is there from the start. On its way there is the gradient of the largest tensor,
    as a rule the embedding's, which is the first; DeepSpeed's bfloat16 optimizer of stage 1 leaves those of all
    parameters beside the sums.
    """
    count, first = parameters.trained, zero.number * parameters.largest
    if zero.stage >= 2:
        summed = FLOAT32 * count / zero.ranks
        return summed + first, summed + first, summed * (2 if zero.stage == 2 else 1)  # stage 2 joins them in one row
    if zero.precision == "bf16":
        return ((FLOAT32 + zero.number) * count,) * 3
    if zero.stage == 0 and zero.number == FLOAT32:
        return FLOAT32 * count if accumulation > 1 else first, FLOAT32 * count, FLOAT32 * count
    return FLOAT32 * count + first, FLOAT32 * count + first, FLOAT32 * count * (1 + 1 / zero.ranks)


def buffer_bytes(zero: Zero, parameters: Parameters) -> tuple[float, float]:
    """Buffers in the backward pass, and at Adam's update."""
    count, longest = parameters.trained, parameters.largest
    if zero.stage == 0:
        return 0, 0
    reduced = max(min(count, zero.bucket), longest)  # a larger parameter goes by itself
    if zero.stage == 3:
        gathered = zero.number * min(parameters.model, zero.live_parameters)
        copied = FLOAT32 * reduced if zero.sent_bytes < FLOAT32 else 0
        return gathered + zero.sent_bytes * zero.bucket + copied, 0
    if zero.stage == 2:
        copied = zero.sent_bytes * reduced if zero.sent_bytes != zero.number else 0
        return zero.number * zero.bucket * (1 + zero.overlaps) + copied, 0
    if zero.precision == "bf16":
        sent = zero.sent_bytes if zero.sent_bytes < FLOAT32 else 0
        return 0, (FLOAT32 + sent) * min(count, REDUCED_AT_A_TIME)
    return FLOAT32 * zero.bucket, 0
