"""The recipe of fine-tuning for a task of XTREME."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finetune.recipe import FinetuningRecipe
from finetune.understanding.tasks.table import Head, task_named
from training.recipe.fields import BY_NAME, FREE, option

SETTINGS = ("transfer", "translate-train-all")
PAIR_PREDICTIONS = ("target", "average")


@dataclass(frozen=True, kw_only=True)
class UnderstandingRecipe(FinetuningRecipe):
    """Fine-tune a pre-trained VECO for a task of XTREME. Values of the paper: VECO (ACL 2021), appendix C."""

    task: str = option("", "xnli, pawsx, udpos, panx, xquad, mlqa or tydiqa (bucc2018 and tatoeba need no training)")
    data: str = option(
        "", "directory with XTREME's files, or a copy of its Parquet, or hub:google/xtreme", on_resume=FREE
    )
    setting: str = option(
        "transfer",
        "transfer: train on English; translate-train-all: on English and all its translations",
        on_resume=BY_NAME,
    )
    plug_in: bool = option(
        False, "predict from pairs, [H ; S]: train on English with its translations, test with translations to English"
    )
    languages: str = option(
        "", "languages of the translated training text, such as de,fr; empty = all with files", on_resume=BY_NAME
    )
    translated_train: str = option("", "where the translated training text is; empty = in data", on_resume=FREE)
    translated_test: str = option(
        "",
        "directory in data's layout whose dev and test files hold the English translations, row by row (plug_in)",
        on_resume=FREE,
    )
    pair_prediction: str = option(
        "target",
        "plug_in: predict from the example itself (target), or from the mean of its logits and its translation's "
        "(average; for one label of a pair of sentences)",
    )
    batch_size: int = option(32, "rows in an update, over all ranks and accumulation_steps", on_resume=BY_NAME)
    micro_batch_size: int = option(
        0,
        "rows that a rank takes at once, accumulation_steps follow; 0 = accumulation_steps decides",
        on_resume=BY_NAME,
        decides=("accumulation_steps",),
    )
    max_length: int = option(
        128, "longest row in tokens with special ones; longer texts are cut (pairs) or in windows", on_resume=BY_NAME
    )
    stride: int = option(
        32,
        "words' tags: tokens that neighbouring windows share; answers: tokens from a window's start to the next",
        on_resume=BY_NAME,
    )
    max_question_length: int = option(
        64, "longest question in tokens; longer ones are cut and counted", on_resume=BY_NAME
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
    best_by: str = option("average", "what tells which checkpoint is best: the average score over the languages of dev")
    keep_best: int = option(1, "best checkpoints to keep, beside the newest keep_checkpoints")

    def metrics(self) -> Mapping[str, str]:
        return {"average": "highest"}

    def problems(self) -> list[str]:
        found = super().problems()
        for name in ("task", "data"):
            if not self.__dict__[name]:
                found.append(f"{name} is not set")
        if self.task:
            found += self._problems_of_task()
        if self.setting not in SETTINGS:
            found.append(f"setting {self.setting!r} must be one of {', '.join(SETTINGS)}")
        if self.plug_in and self.setting == "transfer":
            found.append("plug_in needs setting translate-train-all: in transfer there are no pairs to train on")
        for name in ("batch_size", "stride", "max_question_length", "max_answer_length", "num_best", "max_tokens"):
            if self.__dict__[name] < 1:
                found.append(f"{name} {self.__dict__[name]} must be at least 1")
        if self.max_length < 8:
            found.append(f"max_length {self.max_length} must be at least 8")
        for name in ("accumulation_steps", "micro_batch_size"):
            if self.__dict__[name] > 0 and self.batch_size % self.__dict__[name]:
                found.append(f"batch_size {self.batch_size} must be a multiple of {name} {self.__dict__[name]}")
        if self.micro_batch_size < 0:
            found.append(f"micro_batch_size {self.micro_batch_size} must not be negative")
        return found

    def micro_batches_an_update(self, num_ranks: int) -> int:
        if self.micro_batch_size:
            return self.batch_size // self.micro_batch_size
        return super().micro_batches_an_update(num_ranks)

    def _problems_of_task(self) -> list[str]:
        """What is wrong with the task, or with other fields because of it."""
        try:
            task = task_named(self.task)
        except ValueError as error:
            return [str(error)]
        if task.is_retrieval:
            return [f"task {task.name} has no training; finetune.understanding.predict compares embeddings of a model"]
        if self.pair_prediction not in PAIR_PREDICTIONS:
            return [f"pair_prediction {self.pair_prediction!r} must be one of {', '.join(PAIR_PREDICTIONS)}"]
        if self.pair_prediction == "average" and task.head is not Head.SEQUENCE:
            return [f"pair_prediction 'average' is for one label of a pair of sentences, not for {task.name}"]
        return []
