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
from pretrain.planning.workload import Workload, parameters_of
from training.recipe.ds_config import DS_CONFIGS, HALVES, read_ds_config
from veco import VecoConfig

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
    is_fused: bool = True  # torch's AdamW on a card; the one for CPUs copies each of its rows twice

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

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits + self.buffers


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
    steps = [micro_step(workload.config, kind.longest, pairs[name], storage) for name, kind in workload.kinds.items()]
    found = [largest(workload.config, workload.num_trained, zero, step, accumulation) for step in steps]
    return max(found, key=lambda memory: memory.total)


def largest(config: VecoConfig, count: int, zero: Zero, step: MicroStep, accumulation: int) -> RankMemory:
    """The moment of an update of `count` trained parameters that needs most."""
    embedding = config.vocab_size * config.hidden_size
    share = 1 / zero.ranks if zero.stage else 1.0
    weights = zero.number * parameters_of(config) * (share if zero.stage == 3 else 1)
    has_master = zero.stage > 0 or zero.number < FLOAT32
    optimizer = (has_master * FLOAT32 + ADAM) * count * share
    begin, end, at_update = gradient_bytes(zero, count, embedding, accumulation)
    buffers, of_update = buffer_bytes(zero, count, embedding)
    return max(
        RankMemory("vocabulary", weights, begin, optimizer, step.kept, step.logits, buffers),
        RankMemory("first layer", weights, begin, optimizer, step.kept + step.first_layer, 0, buffers),
        RankMemory("H layer", weights, end, optimizer, step.kept + step.h_layer, 0, buffers),
        RankMemory("update", weights, at_update, optimizer, 0, 0, of_update),
        key=lambda memory: memory.total,
    )


def gradient_bytes(zero: Zero, count: int, embedding: int, accumulation: int) -> tuple[float, float, float]:
    """Gradients at the beginning and at the end of the backward pass, and at Adam's update.

    What a rank sums up is float32, and is there from the start. On its way there is the embedding's gradient, the first
    and the largest; DeepSpeed's bfloat16 optimizer of stage 1 leaves those of all parameters beside the sums.
    """
    first = zero.number * embedding
    if zero.stage >= 2:
        summed = FLOAT32 * count / zero.ranks
        return summed + first, summed + first, summed * (2 if zero.stage == 2 else 1)  # stage 2 joins them in one row
    if zero.precision == "bf16":
        return ((FLOAT32 + zero.number) * count,) * 3
    if zero.stage == 0 and zero.number == FLOAT32:
        return FLOAT32 * count if accumulation > 1 else first, FLOAT32 * count, FLOAT32 * count
    return FLOAT32 * count + first, FLOAT32 * count + first, FLOAT32 * count * (1 + 1 / zero.ranks)


def buffer_bytes(zero: Zero, count: int, embedding: int) -> tuple[float, float]:
    """Buffers in the backward pass, and at Adam's update."""
    is_by_parameter = zero.stage == 0 and zero.number == FLOAT32  # else all parameters of a rank are one row
    adam = 0 if zero.is_fused else 2 * FLOAT32 * (embedding if is_by_parameter else count / zero.ranks)
    if zero.stage == 0:
        return 0, adam
    reduced = max(min(count, zero.bucket), embedding)  # a larger parameter goes by itself
    if zero.stage == 3:
        gathered = zero.number * min(count, zero.live_parameters)
        copied = FLOAT32 * reduced if zero.sent_bytes < FLOAT32 else 0
        return gathered + zero.sent_bytes * zero.bucket + copied, adam
    if zero.stage == 2:
        copied = zero.sent_bytes * reduced if zero.sent_bytes != zero.number else 0
        return zero.number * zero.bucket * (1 + zero.overlaps) + copied, adam
    if zero.precision == "bf16":
        sent = zero.sent_bytes if zero.sent_bytes < FLOAT32 else 0
        return 0, (FLOAT32 + sent) * min(count, REDUCED_AT_A_TIME) + adam
    return FLOAT32 * zero.bucket, adam
