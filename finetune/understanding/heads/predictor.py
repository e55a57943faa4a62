"""A fine-tuned model, its tokenizer and its task, ready to predict."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from finetune.encoders import Encoder, open_encoder
from finetune.placement import Placement, batch_tokens
from finetune.understanding.heads.build import build_head
from finetune.understanding.heads.build_model import trained_model
from finetune.understanding.heads.head import Limits, TaskHead
from finetune.understanding.heads.inference import run_over
from finetune.understanding.heads.model_classes import is_plugged_in, model_class_of
from finetune.understanding.readers.roots import Source
from finetune.understanding.rows.encoding import TextEncoder, text_encoder
from finetune.understanding.rows.evaluation import EvaluationSet, evaluation_set
from finetune.understanding.tasks.catalogues import task_named
from finetune.understanding.tasks.task import Split, Task
from finetune.understanding.tasks.task_file import task_of


def notes_of(encoder: Encoder) -> dict[str, Any]:
    """The notes of training in the configuration of a fine-tuned model. Raises ValueError for a model without them."""
    content = encoder.config.to_dict()
    noted = content.get("understanding") or content.get("xtreme")  # the second by versions before 0.3
    if noted is None:
        raise ValueError(f"{encoder.directory}: was not trained for a task; expected finetune/understanding/train.py's")
    return dict(noted)


def trained_task(encoder: Encoder) -> Task:
    """The task that a model was trained for. Raises ValueError as `notes_of` does."""
    noted = notes_of(encoder)["task"]
    if isinstance(noted, str):  # versions before 0.3 name XTREME's
        return task_named(noted)
    return task_of(noted, lambda _: f"{encoder.directory}/config.json")


def with_classes_of(trained: Task, task: Task, directory: Path) -> Task:
    """A task with the classes that the model in a directory was trained for. Raises ValueError if it has others."""
    if not task.labels:
        task = replace(task, labels=trained.labels)
    if (task.head, task.labels) != (trained.head, trained.labels):
        raise ValueError(f"{directory}: was trained for {trained.name}, whose classes are not those of {task.name}")
    return task


@dataclass
class Predictor:
    """A model with the head of its task."""

    task: Task
    head: TaskHead
    encoder: TextEncoder
    model: PreTrainedModel
    max_tokens: int  # largest batch with padding

    @classmethod
    def load(
        cls, directory: Path, task: Task | None, max_tokens: int | None = None, placement: Placement | None = None
    ) -> Self:
        """Load a model directory; `placement` None is in float32, on a card if there is one.

        `task` None is the task that the model was trained for; another task must have the same classes, as XQuAD and
        MLQA have. `max_tokens` None is what suits the device. Raises ValueError for any other directory.
        """
        encoder = open_encoder(directory, "model")
        noted, trained = notes_of(encoder), trained_task(encoder)
        task = with_classes_of(trained, task or trained, directory)
        limits = Limits(**{field.name: noted[field.name] for field in fields(Limits)})
        head = build_head(task, limits, average_pair=noted["pair_prediction"] == "average")
        placement = placement or Placement()
        model = trained_model(model_class_of(head.model_class, encoder.config), directory, placement.dtype)
        model.to(placement.chosen_device)
        return cls(task, head, text_encoder(encoder), model, batch_tokens(max_tokens, placement.chosen_device))

    @property
    def is_plugged_in(self) -> bool:
        return is_plugged_in(self.model.config)

    def read(self, split: Split, language: str, data: str, translated: str) -> EvaluationSet:
        """The examples of a split; plugged in, with their translations into English from `translated`."""
        pairs = translated if self.is_plugged_in else None
        return evaluation_set(self.task, Source(split, language, data), pairs, self.head, self.encoder)

    def results(self, evaluated: EvaluationSet) -> dict[str, np.ndarray]:
        """The head's results, from which its `predictions` are made."""
        return run_over(self.forward, self.head, evaluated, self.max_tokens, self.encoder.pad)

    def predictions(self, evaluated: EvaluationSet) -> Any:
        """The predictions for all examples, in the form that `score` and prediction files take."""
        return self.head.predictions(self.results(evaluated), evaluated.rows, evaluated.examples)

    def forward(self, batch: dict[str, Tensor]) -> ModelOutput:
        """The model's output for a batch, without gradients."""
        with torch.inference_mode():
            return self.model(**{name: tensor.to(self.model.device) for name, tensor in batch.items()})
