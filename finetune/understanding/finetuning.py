"""A task of XTREME as the shared fine-tuning loop trains it: rows, model, loss, validation on dev of all languages."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import AutoConfig
from transformers.utils import logging

from finetune.finetuning import FinetuningTask
from finetune.pretrained import VECO, XLM_ROBERTA, open_pretrained, pretrained_masked_lm
from finetune.understanding.heads.inference import predict_over_ranks
from finetune.understanding.heads.interface import Limits, TaskHead, check_fits, head_for
from finetune.understanding.metrics import gold_of, score, task_score
from finetune.understanding.readers import languages_with
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.rows.data import (
    EvaluationSet,
    TrainingText,
    check_is_there,
    evaluation_set,
    training_rows,
    translated_languages,
)
from finetune.understanding.rows.encoding import TextEncoder
from finetune.understanding.rows.row_batches import RankRows, UpdateBatches
from finetune.understanding.tasks.table import Split, task_named
from training.engine.interface import Engine
from training.launch import launched_ranks
from training.step import Batch
from veco import VecoConfig
from veco.classification import VecoClassifier
from veco.heads import IGNORED
from veco.pairs import pair_argument


class UnderstandingTask(FinetuningTask[UnderstandingRecipe]):
    """Rows of a task of XTREME and an encoder with a head."""

    def __init__(self, recipe: UnderstandingRecipe) -> None:
        self.recipe = recipe
        self.task = task_named(recipe.task)
        self.tokenizer, config = open_pretrained(Path(recipe.init_from), kinds=(VECO, XLM_ROBERTA))
        self.encoder = TextEncoder(self.tokenizer)
        limits = limits_of(recipe)
        check_fits(limits, config)
        self.head = head_for(self.task, limits, average_pair=recipe.pair_prediction == "average")
        translated = recipe.translated_train or recipe.data
        languages = []
        if recipe.setting == "translate-train-all":
            languages = translated_languages(self.task, translated, recipe.languages)
        text = TrainingText(self.task, recipe.data, translated, languages)
        self.rows, self.report = training_rows(text, self.head, self.encoder, recipe.plug_in)
        self.fingerprint = self.rows.fingerprint()
        self.updates = UpdateBatches(self.rows.sizes, recipe.batch_size, recipe.seed)
        if recipe.batch_size % self.num_shares:
            raise ValueError(
                f"batch_size {recipe.batch_size} cannot be divided evenly by {launched_ranks()} ranks x "
                f"{recipe.accumulation_steps} accumulation_steps"
            )
        self.dev = self._read_dev()
        self.gold = [self._gold_of(evaluated) for evaluated in self.dev]
        self.model = build_model(recipe, self.head, config)

    def _read_dev(self) -> list[EvaluationSet]:
        languages = languages_with(self.task, Split.DEV, self.recipe.data)
        if not languages:
            raise ValueError(f"{self.recipe.data}: has no dev file of {self.task.name} in any language")
        translated = self.recipe.translated_test if self.recipe.plug_in else None
        check_is_there(translated or "", "translated_test")
        return [
            evaluation_set(self.task, Split.DEV, language, self.recipe.data, translated, self.head, self.encoder)
            for language in languages
        ]

    def _gold_of(self, evaluated: EvaluationSet) -> Any:
        """What predictions are compared with; raises ValueError for a dev set without labels, before any training."""
        try:
            return gold_of(self.task, evaluated.examples)
        except ValueError as error:
            where = f"{self.recipe.data}: dev of {self.task.name} in {evaluated.language}"
            raise ValueError(f"{where}: {error}") from None

    @property
    def num_shares(self) -> int:
        """Micro-batches of all ranks in one update."""
        return self.recipe.micro_batches_an_update(launched_ranks())

    @property
    def num_batches(self) -> int:
        """Micro-batches of one epoch, over all ranks."""
        return len(self.updates) * self.num_shares

    def batches(self, rank: int, world_size: int) -> Dataset:
        """Micro-batch m of a rank, for every m >= 0."""
        return RankRows(self.rows, self.updates, self.num_shares, rank, world_size, self.encoder.special.pad)

    def loss(self, model: nn.Module, batch: Batch, num_items: Tensor) -> dict[str, Tensor]:
        """The cross-entropy of a micro-batch as its share of the mean over the update's labels, of both sides."""
        return {self.task.name: self.head.loss(model, batch) * self.count_items(batch)[0] / num_items[0]}

    def count_items(self, batch: Batch) -> Tensor:
        """Labels (1,) of a micro-batch; of an answer its first token stands for both ends."""
        counts = [labels_in(batch, name) for name in (str, pair_argument) if name("input_ids") in batch]
        return torch.stack(counts).sum().reshape(1)

    def validate(self, engine: Engine) -> dict[str, float]:
        """XTREME's metrics for each language of dev, and the average over these of the task's score, 0 to 100."""
        engine.model.eval()
        metrics: dict[str, float] = {}
        scores = []
        for evaluated, gold in zip(self.dev, self.gold, strict=True):
            pad = self.encoder.special.pad
            predictions = predict_over_ranks(engine, self.head, evaluated, self.recipe.max_tokens, pad)
            found = score(self.task, gold, predictions, evaluated.language)
            metrics |= {f"{evaluated.language}/{name}": value for name, value in found.items()}
            scores.append(task_score(self.task, found))
        engine.model.train()
        return {"average": float(np.mean(scores)), **metrics}

    def facts(self) -> dict[str, Any]:
        """What the line at the start of a run says."""
        facts = {
            "task": f"{self.task.name}, {self.recipe.setting}, plug-{'in' if self.recipe.plug_in else 'out'}",
            "training": self.report,
            "dev": f"{sum(len(evaluated.examples) for evaluated in self.dev):,} examples in "
            + ", ".join(evaluated.language for evaluated in self.dev),
        }
        if cut := [f"{one.language}: {', '.join(one.cut)}" for one in self.dev if one.cut]:
            facts["dev"] += f"; {'; '.join(cut)}"
        if own := [evaluated.language for evaluated in self.dev if evaluated.is_own_pair]:
            facts["dev without translations into English, each example its own pair"] = ", ".join(own)
        return facts


def limits_of(recipe: UnderstandingRecipe) -> Limits:
    """The recipe's sizes of rows and answers."""
    return Limits(**{field.name: recipe.__dict__[field.name] for field in dataclasses.fields(Limits)})


def labels_in(batch: Batch, name_of: Callable[[str], str]) -> Tensor:
    """How many labels one side of a batch has, a scalar; of answers, those that are not passed over.

    `name_of` says what the side calls an argument.
    """
    if name_of("labels") in batch:
        return batch[name_of("labels")].ne(IGNORED).sum()
    return batch[name_of("start_positions")].lt(batch[name_of("input_ids")].shape[1]).sum()


def build_model(recipe: UnderstandingRecipe, head: TaskHead, config: VecoConfig) -> VecoClassifier:
    """A float32 model with the head of the task, its weights as `recipe.init` says.

    It notes the names of its classes, the task and the sizes of rows, so that its directory says how to predict.
    """
    config.hidden_dropout_prob = recipe.dropout
    config.attention_probs_dropout_prob = recipe.attention_dropout
    config.plug_in = recipe.plug_in
    config.id2label = dict(enumerate(head.labels or ("start", "end")))
    config.label2id = {label: number for number, label in config.id2label.items()}
    config.xtreme = {"task": recipe.task, **limits_of(recipe).__dict__, "pair_prediction": recipe.pair_prediction}
    directory = Path(recipe.init_from)
    if recipe.init == "random":
        model = head.model_class(config)
    elif AutoConfig.from_pretrained(directory).model_type == XLM_ROBERTA:
        model = head.model_class(config)
        # Plugged out, it has no place for the cross-attention that XLM-R was given.
        model.veco.load_state_dict(pretrained_masked_lm(directory).veco.state_dict(), strict=config.plug_in)
    else:
        model = load_veco(head, directory, config)
    if recipe.activation_checkpointing:
        # Under ZeRO-3 only the non-reentrant kind works.
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def load_veco(head: TaskHead, directory: Path, config: VecoConfig) -> VecoClassifier:
    """A model whose encoder is that of `directory`; its head, too, where there is one of that shape, else it is new.

    Raises ValueError when the encoder lacks weights, as one without cross-attention does when plugged in.
    """
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # transformers would tell of the new head
    try:
        model, found = head.model_class.from_pretrained(
            directory,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    finally:
        logging.set_verbosity(verbosity)
    names = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
    if missing := sorted(name for name in names if name.startswith(f"{model.base_model_prefix}.")):
        plugged = "; plugged in, it must have cross-attention" if config.plug_in else ""
        raise ValueError(f"init_from {directory}: lacks {len(missing)} weights, such as {missing[0]}{plugged}")
    return model
