"""Pre-training of a small model on any device, as the loop does it, an update at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from data_tools.shards.manifest import Manifest
from pretrain.batches import PretrainingBatches
from pretrain.loss_and_metrics import PretrainingLosses, count_items, count_tokens
from pretrain.pretraining import read_batches
from pretrain.recipe import PretrainRecipe
from training.engine import plain_engine
from training.engine.plain_engine import PlainEngine
from training.loop import micro_batches
from training.step import Batch, StepContext, StepMetrics, train_step
from veco import VecoConfig, VecoForPreTraining


@dataclass
class Run:
    """A small model, with all that the loop puts around an update of it."""

    engine: PlainEngine
    losses: PretrainingLosses
    batches: PretrainingBatches

    def update(self, step: int) -> StepMetrics:
        per_step = self.engine.accumulation_steps
        numbers = step * per_step, (step + 1) * per_step
        group = list(micro_batches(self.batches, *numbers, 0, self.engine.device))

        def count(batch: Batch) -> Tensor:
            return count_items(batch, self.losses.objective)

        return train_step(self.engine, group, self.losses, count, StepContext("here"), count_tokens)


def run_on(
    device: str, data: Path, dtype: torch.dtype, layers: int, accumulation: int, recompute: bool, dropout: float
) -> Run:
    recipe = PretrainRecipe(
        output="x",
        accumulation_steps=accumulation,
        mono_batch_pairs=4 * accumulation,
        bilingual_batch_pairs=4 * accumulation,
        clip_norm=1.0,
    )
    manifest = Manifest.load(data)
    config = VecoConfig(
        vocab_size=manifest.vocab_size,
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = VecoForPreTraining(config).train()
    finally:
        torch.set_default_dtype(torch.float32)
    if recompute:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    with mock.patch.object(plain_engine, "plain_device", lambda: torch.device(device)):
        engine = PlainEngine(model, recipe, lambda step: 1.0, {})
    batches, _ = read_batches(recipe, data, manifest)
    return Run(engine, PretrainingLosses(recipe, config, batches.groups, engine, counts_flops=True), batches)
