from __future__ import annotations

import math

import pytest
import torch

from pretrain.micro_batch import SAMPLES
from pretrain.totals import Totals, training_line
from veco.objectives.objective_sum import ObjectiveSum

GROUPS = [("mono", "de"), ("mono", "en"), ("bilingual", "de-en")]


def batch_of(groups: list[int], cut: list[int], digests: list[int]) -> dict[str, torch.Tensor]:
    """Pairs of five and four tokens, `<s>` and `</s>` among them."""
    return {SAMPLES: torch.tensor([groups, cut, digests, [9] * len(groups)]).T}


@pytest.fixture
def totals() -> Totals:
    """Three monolingual pairs and two bilingual ones."""
    totals = Totals(GROUPS, ObjectiveSum.of("ca_mlm+tlm").terms, torch.device("cpu"))
    rows = torch.tensor([[2.0, 2, 1], [8.0, 4, 0], [3.0, 2, 2]])
    totals.add(
        batch_of([0, 1, 0], [0, 0, 0], [1, 2, 3]),
        {"mlm": rows, "ca_mlm": 2 * rows},
        3e12,
    )
    rows = torch.tensor([[6.0, 3, 1], [4.0, 1, 1]])
    totals.add(batch_of([2, 2], [5, 10], [2**62, 2**62]), {"tlm": rows}, 1e12)
    return totals


def test_means_by_language_pair_and_kind(totals: Totals) -> None:
    summary = totals.read(lambda values: values.clone())
    assert summary.by_group() == {
        "de/mlm": 5 / 4,
        "de/mlm_accuracy": 3 / 4,
        "de/ca_mlm": 5 / 4,  # of the doubled counts as well
        "de/ca_mlm_accuracy": 3 / 4,
        "en/mlm": 2.0,
        "en/mlm_accuracy": 0.0,
        "en/ca_mlm": 2.0,
        "en/ca_mlm_accuracy": 0.0,
        "de-en/tlm": 2.5,
        "de-en/tlm_accuracy": 0.5,
    }
    by_kind = summary.by_kind()
    assert by_kind["mono_mlm"] == 13 / 8 and by_kind["mono_mlm_perplexity"] == math.exp(13 / 8)
    bilingual = {name: value for name, value in by_kind.items() if name.startswith("bilingual")}
    assert bilingual == {
        "bilingual_loss": 2.5,
        "bilingual_perplexity": math.exp(2.5),
        "bilingual_tlm": 2.5,
        "bilingual_tlm_accuracy": 0.5,
        "bilingual_tlm_perplexity": math.exp(2.5),
    }
    assert summary.tokens_by_group() == {"de": (10, 0), "en": (5, 0), "de-en": (10, 15)}


def test_line_of_two_ranks(totals: Totals) -> None:
    """Twice the sums over two devices: means stay, and so do operations for each device."""
    line = training_line(totals.read(lambda values: 2 * values), seconds=2.0, num_devices=2, peak_tflops=60.0)
    assert line["language/en/mlm"] == 2.0 and line["pair/de-en/tlm"] == 2.5
    assert line["train/mono_mlm_accuracy"] == 3 / 8 and line["train/bilingual_tlm_accuracy"] == 0.5
    assert line["train/mono_mlm"] == 13 / 8 and line["train/bilingual_perplexity"] == math.exp(2.5)
    assert "mono/mlm" not in line, "that is the loss itself"
    assert line["cut_share/de-en"] == 15 / 25 and "cut_share/de" not in line
    assert line["tflops_per_second"] == 4 / 2 and line["utilisation"] == 2 / 60
    assert line["samples"] == f"{2 * (6 + 2**63) % 2**64:016x}"


def test_reading_begins_anew(totals: Totals) -> None:
    totals.read(lambda values: values.clone())
    summary = totals.read(lambda values: values.clone())
    assert summary.by_group() == summary.by_kind() == summary.tokens_by_group() == {} and summary.digest == 0
    assert training_line(summary, 1.0, 1, 10.0) == {"samples": "0" * 16}
