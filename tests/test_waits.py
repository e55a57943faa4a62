"""An update of pre-training on a pretend GPU: the host's waits for it, and its results.

A wait costs little by itself, but until it is over no kernel can be prepared, and the card runs dry.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from pretend_device import DEVICE
from pretend_kernels import pretend_card
from random_pairs import VOCAB_SIZE, batch_of_views
from small_runs import run_on

from pretrain.micro_batch import PACKED, SAMPLES
from training.step import StepMetrics
from veco import VecoConfig, VecoForPreTraining
from veco.objectives.objective_sum import ObjectiveSum
from veco.objectives.table import OBJECTIVES

MOST_WAITS = 3  # of an update, with all its micro-steps
LAYERS, MICRO_STEPS = 2, 2  # one wait in each would be too much: an update itself has two
KINDS = {"mono": 0, "bilingual": 1}  # updates of these numbers


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
    """The test above can fail: without what the loader knows the host does wait. Attention that pads does not."""
    with pretend_card((0, 0)) as card:
        run = run_on(DEVICE, random_data, torch.float32, 2, 1, recompute=False, dropout=0.1)
        batch = {name: tensor.to(DEVICE) for name, tensor in run.batches[1].items() if name not in (PACKED, SAMPLES)}
        card.clear()
        run.engine.model(**batch)
        waits = Counter(reason for _, reason in card.waits.elements())
    # Of three parts: their tokens, their predicted tokens, their lengths. Then the numbers made of these.
    assert waits["nonzero"] == 6 and waits["tolist"] == 3
    assert waits["a blocking copy from the CPU"] == 1 and waits.total() > MOST_WAITS


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


OPTIONS = {"self_alignment": "(layer=1)"}  # the model is not as deep as the default


# Those with a lexicon are in tests/veco/objectives/test_waits.py; a momentum encoder has to be begun first.
@pytest.mark.parametrize(
    "objective", [n for n, kind in OBJECTIVES.items() if not kind.needs and not kind.momentum_view]
)
def test_no_objective_waits(objective: str) -> None:
    """Forward and backward, where the loader says where tokens stand."""
    config = VecoConfig(
        vocab_size=VOCAB_SIZE, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    objective += OPTIONS.get(objective, "")
    batch = batch_of_views(*ObjectiveSum.of(objective).views, group_pairs=2)
    with pretend_card() as card:
        model = VecoForPreTraining(config, objective).to(DEVICE)
        moved = {name: value.to(DEVICE) for name, value in batch.items()}
        card.clear()
        model(**moved).loss.backward()
        assert card.waits.total() == 0, dict(card.waits)
