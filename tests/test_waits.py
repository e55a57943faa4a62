"""An update of pre-training on a pretend GPU: the host's waits for it, and its results.

A wait costs little by itself, but until it is over no kernel can be prepared, and the card runs dry.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch
from pretend_device import DEVICE
from pretend_kernels import pretend_card

from data_tools.shards.manifest import Manifest
from pretrain.batches import PACKED, SAMPLES, PretrainingBatches
from pretrain.losses import PretrainingLosses, count_predicted
from pretrain.pretraining import read_batches
from pretrain.recipe import PretrainRecipe
from training.engine import plain_engine
from training.engine.plain_engine import PlainEngine
from training.loop import micro_batches
from training.step import StepContext, StepMetrics, train_step
from veco import VecoConfig, VecoForPreTraining

MOST_WAITS = 3  # of an update, with all its micro-steps
LAYERS, MICRO_STEPS = 2, 2  # one wait in each would be too much: an update itself has two
KINDS = {"mono": 0, "bilingual": 1}  # updates of these numbers


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
        return train_step(self.engine, group, self.losses, count_predicted, StepContext("here"))


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


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("kind", KINDS)
def test_host_hardly_waits_for_the_card(random_data: Path, kind: str, recompute: bool) -> None:
    """Twice in an update: for the losses with all counts, and for the norm. Never in a micro-step."""
    with pretend_card() as card:
        run = run_on(DEVICE, random_data, torch.bfloat16, LAYERS, MICRO_STEPS, recompute, dropout=0.1)
        card.clear()
        run.update(KINDS[kind])
        # H once, S twice, and their forward passes again where they are recomputed; so nothing went another way.
        assert card.kernels["_flash_attention_forward"] == MICRO_STEPS * LAYERS * 3 * (1 + recompute)
        assert card.waits.total() <= MOST_WAITS, dict(card.waits)


def test_waits_are_counted(random_data: Path) -> None:
    """The test above can fail: without what the loader knows, and with attention that pads, the host does wait."""
    with pretend_card((0, 0)) as card:
        run = run_on(DEVICE, random_data, torch.float32, 2, 1, recompute=False, dropout=0.1)
        batch = {name: tensor.to(DEVICE) for name, tensor in run.batches[1].items() if name not in (PACKED, SAMPLES)}
        card.clear()
        run.engine.model(**batch)
        waits = Counter(reason for _, reason in card.waits.elements())
    # Of three parts: their tokens, their predicted tokens, their lengths. Then the numbers made of these.
    assert waits["nonzero"] == 6 and waits["tolist"] == 3
    assert waits["a blocking copy from the CPU"] > MOST_WAITS


@pytest.mark.parametrize("capability", [(8, 0), (0, 0)], ids=["fused", "padded"])
def test_card_computes_what_the_cpu_does(random_data: Path, capability: tuple[int, int]) -> None:
    """Losses, norms and the line of metrics of a monolingual and a bilingual update."""

    def updates(device: str) -> tuple[list[StepMetrics], dict[str, float | str]]:
        run = run_on(device, random_data, torch.float32, 2, 2, recompute=False, dropout=0.0)
        return [run.update(step) for step in KINDS.values()], run.losses.line(1.0)

    expected, line = updates("cpu")
    with pretend_card(capability):
        found, line_of_card = updates(DEVICE)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-5)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4)
        assert ours.num_tokens == theirs.num_tokens and not ours.wants_to_stop
    assert line_of_card.pop("samples") == line.pop("samples")
    assert line_of_card == pytest.approx(line, rel=1e-4)
