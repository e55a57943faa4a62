"""The part of a recipe that every training run has, whatever its task."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.lr_schedule import linear_warmup_linear_decay
from training.recipe.checks import above_zero, at_least, below_one, not_negative, one_of
from training.recipe.ds_config import asks_for_bf16, read_ds_config
from training.recipe.option import BY_NAME, FREE, UNREAD, may_change, notes_of, option

ENGINES = ("deepspeed", "plain")
OPTIMIZERS = ("adamw", "muon")
BACK_ENDS = ("auto", "eager", "sdpa")  # those of veco.attention, whose import a recipe's mistakes should not wait for
DEVICES = ("auto", "cuda", "cpu")
CPU_PRECISIONS = ("auto", "bf16", "float32")


@dataclasses.dataclass(frozen=True)
class Phase:
    """Updates `begin` to `end` of a run; `trained` names the parameters that it trains.

    Neighbours that train the same ones share an engine, with Adam's moments.
    """

    begin: int
    end: int
    trained: str = "everything"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """Train a model, whatever the task."""

    output: str = option(
        "", "directory of the run: checkpoints, TensorBoard events, metrics.jsonl, curves.png", on_resume=FREE
    )
    engine: str = option(
        "deepspeed", "deepspeed, or plain: one process without DeepSpeed, the reference for ZeRO", on_resume=FREE
    )
    ds_config: str = option(
        "zero3_bf16.json", "DeepSpeed's own settings: a file, or the name of one in ds_configs/", on_resume=FREE
    )
    device: str = option(
        "auto",
        "cuda or cpu; auto = the cards that the launcher sees, the CPU where there is none. A card that torch cannot "
        "use stops the run, unless this is cpu",
        on_resume=FREE,
    )
    cpu_precision: str = option(
        "auto",
        "on CPU: bf16 or float32; auto = the faster one, timed at the start, where ds_config asks for bf16. "
        "On accelerators ds_config decides",
        on_resume=FREE,
    )
    attention: str = option(
        "auto", "attention in training on CPU: eager or sdpa; auto = the faster one, timed at the start", on_resume=FREE
    )
    cpu_processes: int = option(
        1,
        "processes to use without accelerators; DeepSpeed itself starts one for each NUMA node, however many cores",
        on_resume=FREE,
    )
    seed: int = option(1, "seed of initialisation, dropout, order of samples and masks", on_resume=BY_NAME)
    steps: int = option(1000, "number of optimizer updates", on_resume=FREE)
    accumulation_steps: int = option(
        1, "forward and backward passes for each update, which divide the batch", on_resume=FREE
    )
    optimizer: str = option(
        "adamw",
        "adamw; or muon for the matrices of attention and feed-forward modules, beside adamw for the rest: engine "
        "plain alone",
    )
    learning_rate: float = option(1e-4, "peak learning rate", on_resume=BY_NAME)
    muon_learning_rate: float = option(0.02, "Muon: peak learning rate", on_resume=BY_NAME)
    muon_momentum: float = option(0.95, "Muon: momentum", on_resume=BY_NAME)
    warmup_steps: int = option(
        100, "updates in which the learning rate rises linearly from zero to its peak", on_resume=BY_NAME
    )
    adam_beta1: float = option(0.9, "Adam: decay of the first moment", on_resume=BY_NAME)
    adam_beta2: float = option(0.999, "Adam: decay of the second moment", on_resume=BY_NAME)
    adam_epsilon: float = option(1e-6, "Adam: epsilon", on_resume=BY_NAME)
    weight_decay: float = option(
        0.01, "decoupled weight decay (AdamW and Muon), on every parameter as in fairseq", on_resume=BY_NAME
    )
    clip_norm: float = option(1.0, "largest global gradient norm; 0 = never clipped", on_resume=BY_NAME)
    activation_checkpointing: bool = option(
        False, "recompute activations in the backward pass to save memory", on_resume=FREE
    )
    compile: bool = option(
        False, "let torch.compile make one kernel of several in each layer; not with ZeRO-3", on_resume=FREE
    )
    deterministic: bool = option(
        False,
        "on cards: only kernels that add in a fixed order, so that two runs are equal bit for bit",
        on_resume=FREE,
    )
    lost_rank_seconds: int = option(
        600, "seconds that a rank waits for the others in a collective before it takes one for lost", on_resume=FREE
    )
    log_every: int = option(10, "updates between two lines of metrics.jsonl and TensorBoard", on_resume=FREE)
    save_every: int = option(1000, "updates between checkpoints; the last update always makes one", on_resume=FREE)
    keep_checkpoints: int = option(2, "newest checkpoints to keep; older ones are deleted", on_resume=FREE)
    keep_every: int = option(0, "checkpoints of steps that this divides are kept for good; 0 = none", on_resume=FREE)
    validate_every: int = option(0, "updates between validations; 0 = one before each checkpoint", on_resume=FREE)
    max_time: str = option(
        "", "HH:MM:SS, or minutes such as 90m: save and leave before they are over; empty = never", on_resume=FREE
    )
    skip_sigma: float = option(
        0.0,
        "skip an update when its loss is so many standard deviations above the last ones; 0 = never",
        on_resume=FREE,
    )
    skip_window: int = option(128, "updates of one kind of batch whose losses skip_sigma looks at", on_resume=FREE)
    change: str = option(
        "", "with resume: what is to be different from here on, such as learning_rate,mono_batch_pairs", on_resume=FREE
    )
    reset_optimizer: bool = option(
        False, "with resume: forget Adam's moments and keep the weights; to be given once", on_resume=FREE
    )
    reset_schedule: bool = option(
        False, "with resume: warm up again, and decay from there to the end; to be given once", on_resume=FREE
    )
    resume: str = option(
        "no", "no; auto = go on from the newest valid checkpoint if there is one; or a step", on_resume=FREE
    )
    loader_workers: int = option(
        1, "processes on each rank that read and mask batches ahead of the model", on_resume=FREE
    )
    wandb_project: str | None = option(None, "W&B project that gets the metrics, too; null = none", on_resume=FREE)

    def phases(self) -> list[Phase]:
        """The phases of a run, one after the other."""
        return [Phase(0, self.steps)]

    def phases_by_engine(self) -> list[list[Phase]]:
        """The phases, those together that share an engine."""
        return [list(phases) for _, phases in itertools.groupby(self.phases(), key=lambda phase: phase.trained)]

    def past_difference(self, before: Mapping[str, Any], step: int) -> str:
        """What this recipe has otherwise than `before`, the fields of a checkpoint, for updates that are made.

        One sentence; empty where there is nothing. `step` is the number of updates made.
        """
        return ""

    @property
    def total_steps(self) -> int:
        """Updates of all phases."""
        return self.phases()[-1].end

    def lr_factor(self, step: int, schedule_start: int = 0) -> float:
        """Factor of the peak learning rate for update number `step`, from 0.

        The schedule begins with the update's phase, or at update `schedule_start` if that comes later.
        """
        phases = self.phases()
        phase = next((phase for phase in phases if step < phase.end), phases[-1])
        begin = max(phase.begin, schedule_start)
        length = phase.end - begin
        return linear_warmup_linear_decay(step - begin, min(self.warmup_steps, length), length)

    def inputs(self) -> list[Path]:
        """Directories that a run reads, none of which may be its own."""
        return []

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """The value of each field that is not given."""
        return {field.name: field.default for field in dataclasses.fields(cls)}

    def problems(self) -> list[str]:
        """One sentence for each value that is not allowed; empty for a sound recipe."""
        return [
            *([] if self.output else ["output is not set: name the directory of the run"]),
            *([] if self.engine in ENGINES else [f"engine {self.engine!r} must be 'deepspeed' or 'plain'"]),
            *at_least(self, 1, "steps", "accumulation_steps", "log_every", "save_every", "keep_checkpoints"),
            *at_least(self, 1, "cpu_processes", "lost_rank_seconds"),
            *above_zero(self, "learning_rate", "muon_learning_rate", "adam_epsilon"),
            *not_negative(self, "warmup_steps", "weight_decay", "clip_norm", "loader_workers"),
            *not_negative(self, "keep_every", "validate_every", "skip_sigma"),
            *below_one(self, "adam_beta1", "adam_beta2", "muon_momentum"),
            *self._problems_of_resume(),
            *self._problems_of_optimizer(),
            *one_of(self, DEVICES, "device"),
            *one_of(self, CPU_PRECISIONS, "cpu_precision"),
            *one_of(self, BACK_ENDS, "attention"),
            *not_negative(self, "seed"),
            *self._problems_of_changes(),
            *self._problems_of_ds_config(),
            *at_least(self, 2, "skip_window"),
            *self._problems_of_max_time(),
        ]

    @property
    def cuts_weights(self) -> bool:
        """Whether each rank holds only a part of the weights, which modules gather when they compute: ZeRO-3."""
        if self.engine == "plain":
            return False
        try:
            return read_ds_config(self.ds_config).get("zero_optimization", {}).get("stage") == 3
        except ValueError:  # a problem of its own, which is told
            return False

    def _problems_of_resume(self) -> list[str]:
        if self.resume in ("no", "auto") or self.resume.isdecimal():
            return []
        return [f"resume {self.resume!r} must be 'no', 'auto' or a step"]

    def _problems_of_optimizer(self) -> list[str]:
        found = one_of(self, OPTIMIZERS, "optimizer")
        if self.optimizer == "muon" and self.engine == "deepspeed":
            # 0.19.8, deepspeedai/DeepSpeed#8439.
            found.append(
                "optimizer 'muon': DeepSpeed clips Muon's update by its own norm, not the gradient's; use engine "
                "'plain', or optimizer 'adamw'"
            )
        return found

    def _problems_of_ds_config(self) -> list[str]:
        try:
            config = read_ds_config(self.ds_config)
        except ValueError as error:
            return [str(error)]
        if self.compile and self.cuts_weights:
            return [f"compile: ds_config {self.ds_config} gathers weights inside a layer (ZeRO-3); choose stage 0 to 2"]
        if self.cpu_precision == "bf16" and not asks_for_bf16(config):
            return [f"cpu_precision 'bf16': ds_config {self.ds_config} does not enable bf16; choose one that does"]
        return []

    def _problems_of_max_time(self) -> list[str]:
        try:
            seconds_of(self.max_time or "0m")
        except ValueError as error:
            return [f"max_time {error}"]
        return []

    def names_to_change(self) -> list[str]:
        """The names in `change`; as in flags, `-` is `_`."""
        return [name.strip().replace("-", "_") for name in self.change.split(",") if name.strip()]

    def _problems_of_changes(self) -> list[str]:
        """Problems of the fields that are for a run that goes on."""
        given = [name for name in ("change", "reset_optimizer", "reset_schedule") if vars(self)[name]]
        found = [f"{name} is for a run that goes on: give --resume" for name in given if self.resume == "no"]
        known = may_change(type(self))
        return found + [self._why_not(name, known) for name in self.names_to_change() if name not in known]

    def _why_not(self, name: str, known: Sequence[str]) -> str:
        """The reason why `change` must not have a name that is none of `known`, those that it may have."""
        fields = [field.name for field in dataclasses.fields(self)]
        if name not in fields:
            close = difflib.get_close_matches(name, [*known, *fields], n=1)
            advice = f"did you mean {close[0]!r}?" if close else f"these can change: {', '.join(known)}"
            return f"change: unknown field {name!r}, {advice}"
        on_resume = notes_of(type(self), name)["on_resume"]
        if on_resume is FREE:
            return f"change: {name!r} may be different without being named: leave it out"
        if on_resume is UNREAD:
            return f"change: {name!r} is not read when a run goes on: leave it out"
        return f"change: {name!r} cannot be different in the same run; these can: {', '.join(known)}"


def seconds_of(duration: str) -> float:
    """Seconds in `HH:MM:SS`, or in minutes as `90m`. Raises ValueError for anything else.

    A bare number is refused: YAML reads 1:30:00 without quotes as one, in seconds.
    """
    if match := re.fullmatch(r"(\d+):([0-5]\d):([0-5]\d)", duration):
        hours, minutes, seconds = map(int, match.groups())
        return hours * 3600.0 + minutes * 60 + seconds
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)m", duration):
        return float(match[1]) * 60
    raise ValueError(f"{duration!r} must be HH:MM:SS (in YAML: in quotes), or minutes such as 90m")
