"""The recipe of fine-tuning, whatever the task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from training.lr_schedule import SCHEDULES, lr_factor
from training.recipe.base import TrainingRecipe
from training.recipe.checks import above_zero, below_one, between_zero_and_one, not_negative, one_of
from training.recipe.option import BY_NAME, FREE, UNREAD, option

INITS = ("pretrained", "random")


@dataclass(frozen=True, kw_only=True)
class FinetuningRecipe(TrainingRecipe):
    """Fine-tune a pre-trained model. Tasks derive their recipes from this one."""

    init_from: str = option("", "directory of a pre-trained model; its tokenizer is used too", on_resume=UNREAD)
    init: str = option(
        "pretrained", "pretrained, or random: init_from's shape and tokenizer with fresh weights, to compare"
    )
    dropout: float = option(0.1, "dropout behind every module and the embeddings", on_resume=BY_NAME)
    attention_dropout: float = option(0.1, "dropout of attention weights", on_resume=BY_NAME)
    epochs: int = option(
        0,
        "passes over the data, with a validation and a checkpoint after each; 0 = steps decides",
        on_resume=FREE,
        decides=("steps", "save_every", "validate_every"),
    )
    lr_schedule: str = option("linear", f"what follows the warm-up: {', '.join(SCHEDULES)}", on_resume=BY_NAME)
    lr_power: float = option(1.0, "exponent of lr_schedule polynomial", on_resume=BY_NAME)
    lr_end: float = option(
        0.0, "lr_schedule polynomial: share of the peak learning rate that is left at the end", on_resume=BY_NAME
    )
    warmup_share: float = option(
        0.0, "warm-up as a share of all updates; 0 = warmup_steps decides", on_resume=BY_NAME, decides=("warmup_steps",)
    )
    best_by: str = option("nll", "metric of the validation that decides which checkpoint is best", on_resume=FREE)
    patience: int = option(
        0, "validations in a row without a better best_by that end the run; 0 = never", on_resume=FREE
    )
    keep_best: int = option(
        0,
        "checkpoints with the best best_by to keep, beside the newest keep_checkpoints; saved right after validation",
        on_resume=FREE,
    )

    @property
    def chooses_by_validation(self) -> bool:
        """Whether checkpoints beside the last one are kept, among which `best_by` chooses."""
        return bool(self.keep_best or self.keep_every or self.keep_checkpoints > 1)

    def metrics(self) -> Mapping[str, str]:
        """Metrics that `best_by` may name -> whether the "lowest" or the "highest" value is best."""
        return {"nll": "lowest"}

    def problems(self) -> list[str]:
        found = [
            *super().problems(),
            *([] if self.init_from else ["init_from is not set"]),
            *([] if self.init in INITS else [f"init {self.init!r} must be 'pretrained' or 'random'"]),
            *one_of(self, SCHEDULES, "lr_schedule"),
            *above_zero(self, "lr_power"),
            *between_zero_and_one(self, "lr_end"),
            *below_one(self, "dropout", "attention_dropout", "warmup_share"),
            *not_negative(self, "epochs", "patience", "keep_best"),
            *one_of(self, self.metrics(), "best_by"),
        ]
        if self.patience and not self.keep_best:
            found.append("patience ends a run behind its best checkpoint; to keep that, keep_best must be at least 1")
        return found

    def inputs(self) -> list[Path]:
        return [Path(self.init_from)]

    def micro_batches_an_update(self, num_ranks: int) -> int:
        """Micro-batches of all ranks in one update."""
        return num_ranks * self.accumulation_steps

    def resolved(self, num_batches: int, num_ranks: int) -> Self:
        """This recipe for an epoch of `num_batches` micro-batches on so many ranks.

        `accumulation_steps` fits the ranks, and where `epochs` is set, so do `steps`, `save_every`, `validate_every`.
        Raises ValueError when the ranks do not divide an update.
        """
        total = self.micro_batches_an_update(num_ranks)
        if total % num_ranks:
            raise ValueError(f"an update has {total} micro-batches, which {num_ranks} ranks do not divide")
        accumulated = dataclasses.replace(self, accumulation_steps=total // num_ranks)
        if not self.epochs:
            return accumulated
        steps_an_epoch = -(-num_batches // total)
        return dataclasses.replace(
            accumulated, steps=self.epochs * steps_an_epoch, save_every=steps_an_epoch, validate_every=0
        )

    def lr_factor(self, step: int, schedule_start: int = 0) -> float:
        """Factor of the peak learning rate for update number `step`, from 0; of a resolved recipe.

        The schedule begins at update `schedule_start`.
        """
        length = self.steps - schedule_start
        warmup_steps = round(self.warmup_share * length) if self.warmup_share else self.warmup_steps
        return lr_factor(
            self.lr_schedule,
            step - schedule_start,
            min(warmup_steps, length),
            length,
            power=self.lr_power,
            end=self.lr_end,
        )

    def continued(self, model_dir: Path) -> Self:
        """This recipe for a model that was in training: whatever it started from, it is in `model_dir` now."""
        return dataclasses.replace(self, init_from=str(model_dir), init="pretrained")
