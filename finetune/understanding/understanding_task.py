"""An understanding task for the shared fine-tuning loop: rows, model, loss, validation on dev in all languages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from finetune.encoders import open_encoder
from finetune.finetuning import FinetuningTask
from finetune.understanding.adaptation.adapt import adapt
from finetune.understanding.adaptation.few_shot import FewShot
from finetune.understanding.distillation import (
    TaskTeacher,
    check_projection,
    check_token_states,
    without_projection,
)
from finetune.understanding.heads.build import build_head
from finetune.understanding.heads.build_model import build_model, check_encoder, limits_of
from finetune.understanding.heads.inference import predict_over_ranks
from finetune.understanding.metrics.scoring import Gold, gold_of, score, task_score
from finetune.understanding.readers.examples_of_task import with_labels
from finetune.understanding.readers.languages import languages_tested, languages_with
from finetune.understanding.readers.roots import Source, check_root
from finetune.understanding.readers.tested_on_dev import languages_tested_on_dev
from finetune.understanding.recipe import ENCODER, UnderstandingRecipe
from finetune.understanding.rows.encoding import text_encoder
from finetune.understanding.rows.evaluation import EvaluationSet, evaluation_set
from finetune.understanding.rows.paired_rows import PairedRows
from finetune.understanding.rows.row_batches import MicroBatches, UpdateBatches
from finetune.understanding.rows.training import TrainingText, training_set, training_text
from finetune.understanding.settings import Setting
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.task import Split
from finetune.understanding.tasks.task_file import content_of
from training.engine.interface import Engine, Ranks
from training.launch import launched_ranks
from training.meters import Scalars
from training.step import Batch
from veco.labels import IGNORED
from veco.pairs import pair_argument


class UnderstandingTask(FinetuningTask[UnderstandingRecipe]):
    """Rows of a task and an encoder with a head."""

    def __init__(self, recipe: UnderstandingRecipe) -> None:
        self.recipe = recipe
        self.task = with_labels(task_named(recipe.task), recipe.data)
        self.pretrained = open_encoder(Path(recipe.init_from))
        self.tokenizer = self.pretrained.tokenizer
        self.encoder = text_encoder(self.pretrained)
        self.head = build_head(self.task, limits_of(recipe), average_pair=recipe.pair_prediction == "average")
        check_encoder(recipe, self.head, self.pretrained)
        translated = recipe.translated_train or recipe.data
        text = training_text(self.task, recipe.data, translated, Setting(recipe.setting), recipe.languages)
        if recipe.train_examples:
            text = replace(text, few=FewShot(recipe.train_examples, recipe.seed))
        training = training_set(text, self.head, self.encoder, recipe.plug_in)
        self.rows, self.report = training.rows, training.report
        self.fingerprint = self.rows.fingerprint()
        self.updates = UpdateBatches(self.rows.sizes, recipe.batch_size, recipe.seed)
        if recipe.batch_size % self.num_shares:
            raise ValueError(
                f"batch_size {recipe.batch_size} cannot be divided evenly by {launched_ranks()} ranks x "
                f"{recipe.accumulation_steps} accumulation_steps"
            )
        self.teacher = TaskTeacher.of_recipe(recipe, self.task, self.head, self.pretrained)
        self.dev = self._read_dev(text)
        self.gold = [self._gold_of(evaluated) for evaluated in self.dev]
        whole = build_model(recipe, self.task, self.head, self.pretrained)
        if recipe.teacher_states:
            check_token_states(whole, self.pretrained)
        self.adapted = adapt(whole, recipe, self._sets, self.encoder.pad)
        self.model = self.adapted.model
        if self.teacher is not None:
            self.teacher.attach(self.model, whole)

    @property
    def _sets(self) -> list[PairedRows]:
        """The rows of training and of each dev set."""
        return [self.rows, *(evaluated.rows for evaluated in self.dev)]

    def build_model(self, checkpoint: Path | None) -> None:
        if checkpoint is not None:
            check_projection(self.model, checkpoint, self.recipe)

    def prepare(self, ranks: Ranks) -> None:
        self.rows, *of_dev = self.adapted.prepared(self._sets, ranks)
        self.dev = [replace(one, rows=rows) for one, rows in zip(self.dev, of_dev, strict=True)]

    def resolved(self, recipe: UnderstandingRecipe) -> UnderstandingRecipe:
        recipe = super().resolved(recipe)
        # States are in memory: processes that read ahead would each need a copy.
        return replace(recipe, loader_workers=0) if recipe.freeze == ENCODER else recipe

    def whole_model(self, weights: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        return self.adapted.whole(without_projection(weights))

    def write_model(self, weights: dict[str, Tensor], directory: Path) -> None:
        super().write_model(weights, directory)
        self.adapted.write_beside(without_projection(weights), directory)

    def _read_dev(self, text: TrainingText) -> list[EvaluationSet]:
        languages: Sequence[str] = languages_with(self.task, Split.DEV, self.recipe.data)
        if self.recipe.setting == Setting.INDIVIDUAL:
            languages = languages_tested(self.task, self.recipe.data, ",".join(text.train_files), Split.DEV)
        if not languages:
            raise ValueError(f"{self.recipe.data}: has no dev file of {self.task.name} in any language")
        translated = self.recipe.translated_test if self.recipe.plug_in else None
        check_root(translated or "", "translated_test")
        sources = [Source(Split.DEV, language, self.recipe.data) for language in languages]
        return [evaluation_set(self.task, source, translated, self.head, self.encoder) for source in sources]

    def _gold_of(self, evaluated: EvaluationSet) -> Gold:
        """The labels of a dev set; raises ValueError for one without labels, before any training."""
        try:
            return gold_of(self.task, evaluated.examples)
        except ValueError as error:
            where = f"{self.recipe.data}: dev of {self.task.name} in {evaluated.language}"
            raise ValueError(f"{where}: {error}") from None

    def compared(self, recipe: UnderstandingRecipe) -> dict[str, Any]:
        # Validations under other metrics or in other languages cannot be compared.
        teacher = "" if self.teacher is None else self.teacher.fingerprint  # one that comes or goes is a change, too
        return {**super().compared(recipe), "task_file": content_of(self.task), "teacher_fingerprint": teacher}

    @property
    def max_tokens(self) -> int:
        return self.pretrained.max_tokens

    @property
    def num_shares(self) -> int:
        """The number of micro-batches of all ranks in one update."""
        return self.recipe.micro_batches_an_update(launched_ranks())

    @property
    def num_batches(self) -> int:
        """The number of micro-batches of all ranks in one epoch."""
        return len(self.updates) * self.num_shares

    def batches(self, rank: int, world_size: int) -> Dataset:
        """Micro-batch m of a rank, for every m >= 0."""
        return MicroBatches(self.rows, self.updates, self.num_shares, rank, world_size, self.encoder.pad)

    def loss(self, model: nn.Module, batch: Batch, num_items: Tensor) -> dict[str, Tensor]:
        """The losses of a micro-batch as their shares of means over the update's labels, of x and y, or its rows."""
        shares = self.count_items(batch) / num_items
        if self.teacher is not None:
            return self.teacher.losses(self.task.name, model, batch, shares)
        return {self.task.name: self.head.loss(self.head.labelled(model, batch)) * shares[0]}

    def watch(self, engine: Engine) -> Callable[[float], Scalars]:
        if self.teacher is not None:
            self.teacher.begin(engine, next(self.model.parameters()).dtype)
        return super().watch(engine)

    def count_items(self, batch: Batch) -> Tensor:
        """The numbers (2,) of labels, where an answer counts once, by its first token, and of rows in a micro-batch."""
        counts = [labels_in(batch, name) for name in (str, pair_argument) if name("attention_mask") in batch]
        labels = torch.stack(counts).sum()
        return torch.stack([labels, labels.new_full((), batch["attention_mask"].shape[:-1].numel())])

    def validate(self, engine: Engine) -> dict[str, float]:
        """The task's metrics for each language of dev, and the average of its score over the languages, 0 to 100."""
        engine.model.eval()
        metrics: dict[str, float] = {}
        scores = []
        for evaluated, gold in zip(self.dev, self.gold, strict=True):
            predictions = predict_over_ranks(engine, self.head, evaluated, self.recipe.max_tokens, self.encoder.pad)
            found = score(self.task, gold, predictions, evaluated.language)
            metrics |= {f"{evaluated.language}/{name}": value for name, value in found.items()}
            scores.append(task_score(self.task, found))
        engine.model.train()
        return {"average": float(np.mean(scores)), **metrics}

    def facts(self) -> dict[str, Any]:
        """The facts for the first line of a run."""
        facts = {
            "task": f"{self.task.name}, {self.recipe.setting}, plug-{'in' if self.recipe.plug_in else 'out'}",
            "training": self.report,
            **({} if self.teacher is None else {"teacher": self.recipe.teacher}),
            **self.adapted.facts(),
            "dev": f"{sum(len(evaluated.examples) for evaluated in self.dev):,} examples in "
            + ", ".join(evaluated.language for evaluated in self.dev),
        }
        if truncated := [f"{one.language}: {', '.join(one.truncated)}" for one in self.dev if one.truncated]:
            facts["dev"] += f"; {'; '.join(truncated)}"
        tested = languages_tested_on_dev(self.task, self.recipe.data)
        same = [evaluated.language for evaluated in self.dev if evaluated.language in tested]
        if same and self.recipe.chooses_by_validation:
            facts["dev is the test"] = (
                f"in {', '.join(same)}: the best checkpoint is chosen on what is reported; with keep_best 0 and "
                "keep_checkpoints 1 there is only the last one"
            )
        if own := [evaluated.language for evaluated in self.dev if evaluated.is_own_pair]:
            facts["dev without translations into English, each example its own pair"] = ", ".join(own)
        return facts


def labels_in(batch: Batch, name_of: Callable[[str], str]) -> Tensor:
    """The number of labels of x or y in a batch, a scalar; of answers, those that are not ignored.

    `name_of` maps the name of an argument to that of x's or y's.
    """
    if name_of("labels") in batch:
        labels = batch[name_of("labels")]
        # Numbers, one for each row or each class, are never ignored.
        return (
            torch.tensor(labels.numel(), device=labels.device)
            if labels.is_floating_point()
            else labels.ne(IGNORED).sum()
        )
    return batch[name_of("start_positions")].lt(batch[name_of("attention_mask")].shape[1]).sum()
