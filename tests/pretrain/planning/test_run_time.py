"""Seconds and days by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretrain.planning.cards import Card
from pretrain.planning.choice import possible_accumulations
from pretrain.planning.run_time import run_time
from pretrain.planning.workload import plan_workload, read_recipe

CARD = Card("card", 1, {"bf16": 100.0, "fp16": 50.0}, "")


def test_operations_over_what_the_cards_reach(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("mono_batch_pairs: 32\nbilingual_batch_pairs: 64\nsteps: 5000\n")
    workload = plan_workload(read_recipe(path), None, [], 1000)
    mono, bilingual = (kind.average.flops(workload.config, False) for kind in workload.kinds.values())
    flops = (32 * mono + 64 * bilingual) / 2  # the kinds take turns
    found = run_time(workload, CARD, "bf16", gpus=4, share_of_peak=0.5, recompute=False)
    assert found.flops == pytest.approx(flops)
    assert found.seconds == pytest.approx(flops / (4 * 100e12 * 0.5))
    assert found.days == pytest.approx(5000 * found.seconds / 86400)
    slower = run_time(workload, CARD, "fp16", gpus=4, share_of_peak=0.5, recompute=False)
    assert slower.seconds == pytest.approx(2 * found.seconds)


def test_days_are_those_of_all_stages(tmp_path: Path) -> None:
    """Each as in a run of its own; memory is planned for the largest batches."""
    first, second = "steps: 300, mono_batch_pairs: 32", "steps: 100, mono_batch_pairs: 96, bilingual_max_length: 32"
    fields = (f"stages: [{{{first}}}, {{{second}}}]", first.replace(", ", "\n"), second.replace(", ", "\n"))
    workloads = []
    for number, text in enumerate(fields):
        path = tmp_path / f"{number}.yaml"
        path.write_text(f"bilingual_batch_pairs: 64\n{text}\n")
        workloads.append(plan_workload(read_recipe(path), None, [], 1000))
    days = [run_time(workload, CARD, "bf16", 4, 0.5, recompute=False).days for workload in workloads]
    assert days[0] == pytest.approx(days[1] + days[2])
    largest = {name: (kind.batch_pairs, kind.longest.length) for name, kind in workloads[0].kinds.items()}
    assert largest == {"mono": (96, 128), "bilingual": (64, 64)}
    assert possible_accumulations(workloads[0], 2) == [1, 2, 4, 8, 16]


def test_recomputed_layers_come_on_top_but_are_not_the_mathematics(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("steps: 10\n")
    workload = plan_workload(read_recipe(path), None, [], 10)  # hardly any vocabulary: nearly all is in the layers
    plain, recomputed = (run_time(workload, CARD, "bf16", 1, 1.0, recompute) for recompute in (False, True))
    assert plain.flops == recomputed.flops
    assert recomputed.seconds / plain.seconds == pytest.approx(4 / 3, rel=0.02)
