"""A model's predictions for an evaluation set, on one rank or distributed over several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.utils import ModelOutput

from finetune.understanding.heads.head import TaskHead
from finetune.understanding.rows.evaluation import EvaluationSet
from finetune.understanding.rows.row_batches import EvaluationBatches
from training.engine.interface import Engine
from training.random_order import evaluation_indices
from training.step import Batch

# A batch on the CPU -> the model's output, in evaluation mode and without gradients.
Forward = Callable[[Batch], ModelOutput]


def predict_over_ranks(engine: Engine, head: TaskHead, evaluated: EvaluationSet, max_tokens: int, pad: int) -> Any:
    """Predictions for all examples, the same on all ranks, each of which does its share; every rank must call it.

    `max_tokens` is the size of the largest batch of a rank, with padding.
    """
    results = run_over(forward_of(engine), head, evaluated, max_tokens, pad, engine.rank, engine.world_size)
    summed = {
        name: engine.sum_over_ranks(torch.from_numpy(values).to(engine.device)).cpu().numpy()
        for name, values in results.items()
    }
    return head.predictions(summed, evaluated.rows, evaluated.examples)


def run_over(
    forward: Forward,
    head: TaskHead,
    evaluated: EvaluationSet,
    max_tokens: int,
    pad: int,
    rank: int = 0,
    world_size: int = 1,
) -> dict[str, np.ndarray]:
    """The head's results for a rank's share of the batches; zeros elsewhere."""
    batches = EvaluationBatches(evaluated.rows, max_tokens, pad)
    results = head.results(evaluated.rows)
    for number, counts in evaluation_indices(len(batches), rank, world_size):
        output = forward(batches[number])
        if counts:
            head.store(results, output, evaluated.rows, batches.units_of(number))
    return results


def forward_of(engine: Engine) -> Forward:
    """The engine's model on its device, in its precision."""

    def forward(batch: dict[str, Tensor]) -> ModelOutput:
        on_device = {name: tensor.to(engine.device) for name, tensor in batch.items()}
        with torch.no_grad(), engine.forward_context():
            return engine.model(**on_device)

    return forward
