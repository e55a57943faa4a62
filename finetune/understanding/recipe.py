"""The recipe of fine-tuning for an understanding task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from finetune.recipe import FinetuningRecipe
from finetune.understanding.settings import WITH_PAIRS, Setting
from finetune.understanding.tasks.catalogues import SUFFIXES, task_named
from finetune.understanding.tasks.task import OF_TEXTS, Head
from training.recipe.adapters import AdapterRecipe
from training.recipe.checks import above_zero, between_zero_and_one, not_negative, one_of
from training.recipe.option import BY_NAME, FREE, UNREAD, option

SETTINGS = tuple(setting.value for setting in Setting)
PAIR_PREDICTIONS = ("target", "average")
EMBEDDINGS, ENCODER = "embeddings", "encoder"
FREEZABLE = ("", EMBEDDINGS, ENCODER)
WAYS = ("freeze", "freeze_layers", "lora_rank", "adapter")  # to adapt, other than to let everything learn
MIN_LENGTH = 8  # of a row, in tokens


@dataclass(frozen=True, kw_only=True)
class UnderstandingRecipe(AdapterRecipe, FinetuningRecipe):
    """Fine-tune a pre-trained encoder for an understanding task. The paper's values: VECO (ACL 2021), appendix C."""

    task: str = option(
        "", "a task file such as mine.yaml, or a task that comes along: xnli, glue/rte, … (docs/tasks.md)"
    )
    data: str = option(
        "", "root of the task's files, or a copy of a hub data set's Parquet, or hub:NAME", on_resume=FREE
    )
    setting: str = option(
        "transfer",
        "transfer: train on the source language; translate-train-all: on it and its translations; translate-train: on "
        "the translations alone; joint: on the train files of all languages; individual: on that of one of languages",
        on_resume=BY_NAME,
    )
    plug_in: bool = option(
        False,
        "predict from pairs, [H ; S]: train on the source language with its translations, test with translations to it",
    )
    languages: str = option(
        "",
        "languages of the translated training text, or of the train files of joint and individual, such as de,fr; "
        "empty = all with files",
        on_resume=BY_NAME,
    )
    translated_train: str = option("", "root of the translated training text; empty = data", on_resume=FREE)
    translated_test: str = option(
        "",
        "directory in data's layout whose dev and test files hold the English translations, row by row (plug_in)",
        on_resume=FREE,
    )
    pair_prediction: str = option(
        "target",
        "plug_in: predict from the logits of the example itself (target), or from the mean of its and its "
        "translation's (average; for one prediction of a text or a pair of them)",
    )
    batch_size: int = option(
        32,
        "rows in an update, over all ranks and accumulation_steps; of multiple choice, examples",
        on_resume=BY_NAME,
    )
    train_examples: int = option(
        0,
        "examples of each class to train on, or of a task without classes in all, in each language: drawn by seed, the "
        "same for every model; 0 = all",
    )
    teacher: str = option(
        "",
        "run or model that was fine-tuned for the same task, with the same tokenizer, whose logits are learned beside "
        "the labels; each device holds all of it (docs/distillation.md); empty = none",
        on_resume=FREE,
    )
    distillation_weight: float = option(
        0.5, "teacher: share of its loss; the rest is that of the labels", on_resume=BY_NAME
    )
    temperature: float = option(
        2.0,
        "teacher: by which its logits and the student's are divided; its loss is multiplied by the square",
        on_resume=BY_NAME,
    )
    teacher_states: float = option(
        0.0,
        "teacher: weight of the squared difference of its states and the student's, which is added; 0 = none",
        on_resume=BY_NAME,
    )
    teacher_every_layer: bool = option(
        False,
        "teacher_states: of each layer of the student and the teacher's at the same share of the depth, and of the "
        "embeddings, not of the last layers alone",
        on_resume=BY_NAME,
    )
    freeze: str = option(
        "",
        "weights that learn nothing: embeddings, or encoder, which lets the head alone learn from states that are "
        "computed once; empty = none",
    )
    freeze_layers: int = option(0, "lowest layers that learn nothing, and with them the embeddings; 0 = none")
    features_gb: float = option(
        8.0,
        "freeze encoder: GB of memory that the states of all examples may take on each rank; more is refused",
        on_resume=FREE,
    )
    language_adapter: str = option(
        "",
        "adapter: directory of a language's adapter, which stays as it is below the one that learns (MAD-X); "
        "predict exchanges it; empty = none",
        on_resume=UNREAD,
    )
    micro_batch_size: int = option(
        0,
        "rows of a rank's micro-batch, which decide accumulation_steps; 0 = accumulation_steps decides",
        on_resume=BY_NAME,
        decides=("accumulation_steps",),
    )
    max_length: int = option(
        128,
        "longest row in tokens with special ones; longer pairs are truncated, other texts split into windows",
        on_resume=BY_NAME,
    )
    stride: int = option(
        32,
        "tags: tokens by which neighbouring windows overlap; answers: tokens from a window's start to the next one's",
        on_resume=BY_NAME,
    )
    max_question_length: int = option(
        64, "longest question in tokens; longer ones are truncated and counted", on_resume=BY_NAME
    )
    max_answer_length: int = option(30, "longest answer in tokens")
    num_best: int = option(20, "answers that are kept for each question")
    max_tokens: int = option(
        8192, "largest batch in evaluation on each rank, in tokens with padding", on_resume=BY_NAME
    )
    epochs: int = option(3, "passes over the data, each with a validation on dev of all languages and a checkpoint")
    learning_rate: float = option(1e-5, "peak learning rate")
    warmup_share: float = option(0.1, "warm-up as a share of all updates")
    keep_checkpoints: int = option(1, "newest checkpoints to keep")
    best_by: str = option(
        "average", "the metric by which the best checkpoint is chosen: the average score over the languages of dev"
    )
    keep_best: int = option(1, "best checkpoints to keep, besides the newest keep_checkpoints")

    def metrics(self) -> Mapping[str, str]:
        return {"average": "highest"}

    def problems(self) -> list[str]:
        found = super().problems()
        found += [f"{name} is not set" for name, value in {"task": self.task, "data": self.data}.items() if not value]
        if self.task:
            found += self._problems_of_task()
        if self.setting not in SETTINGS:
            found.append(f"setting {self.setting!r} must be one of {', '.join(SETTINGS)}")
        if self.plug_in and self.setting not in WITH_PAIRS:
            pairs = ", ".join(WITH_PAIRS)
            found.append(f"plug_in needs setting {pairs}: in {self.setting} there are no pairs to train on")
        return found + self._problems_of_sizes() + self._problems_of_adaptation()

    def inputs(self) -> list[Path]:
        return [*super().inputs(), *(Path(read) for read in (self.language_adapter, self.teacher) if read)]

    def continued(self, model_dir: Path) -> Self:
        return replace(super().continued(model_dir), language_adapter="")  # which is in the model

    def micro_batches_an_update(self, num_ranks: int) -> int:
        if self.micro_batch_size:
            return self.batch_size // self.micro_batch_size
        return super().micro_batches_an_update(num_ranks)

    def _problems_of_sizes(self) -> list[str]:
        """Sizes that are too small, or batches that cannot be divided."""
        positive = {
            "batch_size": self.batch_size,
            "stride": self.stride,
            "max_question_length": self.max_question_length,
            "max_answer_length": self.max_answer_length,
            "num_best": self.num_best,
            "max_tokens": self.max_tokens,
        }
        found = [f"{name} {size} must be at least 1" for name, size in positive.items() if size < 1]
        if self.max_length < MIN_LENGTH:
            found.append(f"max_length {self.max_length} must be at least {MIN_LENGTH}")
        divisors = {"accumulation_steps": self.accumulation_steps, "micro_batch_size": self.micro_batch_size}
        found += [
            f"batch_size {self.batch_size} must be a multiple of {name} {size}"
            for name, size in divisors.items()
            if size > 0 and self.batch_size % size
        ]
        if self.micro_batch_size < 0:
            found.append(f"micro_batch_size {self.micro_batch_size} must not be negative")
        return found

    def _problems_of_adaptation(self) -> list[str]:
        """Ways to adapt that are unknown, or exclude one another."""
        given = [name for name in WAYS if vars(self)[name]]
        found = [
            *one_of(self, FREEZABLE, "freeze"),
            *not_negative(self, "train_examples", "freeze_layers", "teacher_states"),
            *above_zero(self, "features_gb", "temperature"),
            *between_zero_and_one(self, "distillation_weight"),
        ]
        if self.teacher and self.freeze == ENCODER:
            found.append(f"teacher and freeze {ENCODER} exclude one another: a teacher reads tokens, not states")
        if self.teacher_states and not self.teacher:
            found.append(f"teacher_states {self.teacher_states} needs a teacher")
        if self.teacher_every_layer and not self.teacher_states:
            found.append("teacher_every_layer needs teacher_states above 0")
        if len(given) > 1:
            found.append(f"{' and '.join(given)} exclude one another: give one of them")
        found += self.needs_adapter("adapter_reduction", "adapter_skips_last", "language_adapter")
        return found

    def _problems_of_task(self) -> list[str]:
        """Problems with the task, or with other fields because of it."""
        try:
            task = task_named(self.task)
        except ValueError as error:
            if self.task.endswith(SUFFIXES):  # it names the place in the task file, which is not the recipe's
                raise
            return [str(error)]
        if task.is_retrieval:
            return [f"task {task.name} has no training; finetune.understanding.predict compares embeddings of a model"]
        if self.pair_prediction not in PAIR_PREDICTIONS:
            return [f"pair_prediction {self.pair_prediction!r} must be one of {', '.join(PAIR_PREDICTIONS)}"]
        if self.pair_prediction == "average" and task.head not in (*OF_TEXTS, Head.CHOICE):
            return [f"pair_prediction 'average' is for one prediction of a text or a pair of them, not for {task.name}"]
        return []
