"""Losses and accuracy on held-out text, by language and pair."""

from __future__ import annotations

import torch

from pretrain.batches import ValidationBatches
from pretrain.micro_batch import SAMPLES
from pretrain.totals import Totals
from training.engine.interface import Engine
from training.random_order import evaluation_indices
from training.step import on_device
from veco.objectives.objective_sum import ObjectiveSum


def validate(engine: Engine, batches: ValidationBatches, objective: ObjectiveSum) -> dict[str, float]:
    """Each term in nats a predicted token, and the share predicted right, by language and pair; every rank calls it.

    Names are "de/mlm", "de/mlm_accuracy", "de-en/tlm", …; those over all of a kind are `Summary.by_kind`'s.
    All ranks make equally many passes, in step over the same kinds of batches: otherwise they would wait for each other
    for ever under ZeRO-3.
    """
    totals = Totals(batches.groups, objective.terms, engine.device)
    engine.model.eval()
    with torch.no_grad():
        for kind, of_kind in batches.batches.items():
            if not objective.of_kind(kind).parts:
                continue
            for index, counts in evaluation_indices(len(of_kind), engine.rank, engine.world_size):
                batch = on_device(batches.batch(kind, index), engine.device)
                inputs = {name: tensor for name, tensor in batch.items() if name != SAMPLES}
                with engine.forward_context():
                    output = engine.model(**inputs, objective=objective)
                if counts:
                    totals.add(batch, output.row_totals)
    engine.model.train()
    summary = totals.read(engine.sum_over_ranks)
    return {**summary.by_kind(), **summary.by_group()}
