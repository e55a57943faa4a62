"""Oracles: what benchmarks/zero.py measured of DeepSpeed (docs/ds_configs.md), and DeepSpeed's own buffers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pretrain.planning.activations import MicroStep
from pretrain.planning.memory import Zero, buffer_bytes, largest, serves, zero_of
from pretrain.planning.parameters import Parameters
from training.recipe.ds_config import HALVES, read_ds_config

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "ds_configs.md").read_text(encoding="utf-8")
COUNT = 660_952_210
EMBEDDING = 250_002 * 1024
PARAMETERS = Parameters(model=COUNT, trained=COUNT, largest=EMBEDDING)
NOTHING = MicroStep(kept=0, logits=0, first_layer=0, h_layer=0)
LONG = MicroStep(kept=10**12, logits=0, first_layer=0, h_layer=0)  # so that the backward pass is the largest moment


def bytes_of_a_parameter(zero: Zero) -> float:
    """Of weights and optimizer, which a rank keeps between updates."""
    memory = largest(PARAMETERS, zero, NOTHING, accumulation=1)
    return (memory.weights + memory.optimizer) / COUNT


@pytest.mark.parametrize(
    ("stage", "precision", "ranks", "measured"),
    [
        (0, "float32", 1, 12.0),
        (0, "float32", 2, 12.0),
        (1, "bf16", 1, 14.0),
        (1, "bf16", 2, 8.0),
        (2, "bf16", 2, 8.0),
        (3, "bf16", 1, 14.0),
        (3, "bf16", 2, 7.0),
        (3, "bf16", 4, 3.5),
        (3, "float32", 1, 16.0),
        (3, "float32", 4, 4.0),
    ],
)
def test_state_is_what_was_measured(stage: int, precision: str, ranks: int, measured: float) -> None:
    assert bytes_of_a_parameter(Zero(stage, ranks, precision, None)) == pytest.approx(measured, rel=0.001)


def test_gradients_by_stage() -> None:
    """Beside the sums in float32: of stage 1 in bf16 all in 16 bits, else the embedding's, which is made first."""
    step = MicroStep(
        kept=10**12, logits=10**9, first_layer=0, h_layer=-(10**9)
    )  # so that the vocabulary's moment is the largest

    def gradients(stage: int, precision: str, accumulation: int = 1) -> float:
        memory = largest(PARAMETERS, Zero(stage, 8, precision, None), step, accumulation)
        assert memory.moment == "vocabulary"
        return memory.gradients

    assert gradients(1, "bf16") == 6 * COUNT
    assert gradients(1, "fp16") == 4 * COUNT + 2 * EMBEDDING
    assert gradients(2, "bf16") == gradients(3, "fp16") == 4 * COUNT / 8 + 2 * EMBEDDING
    assert gradients(0, "float32") == 4 * EMBEDDING
    assert gradients(0, "float32", accumulation=2) == 4 * COUNT


def test_buffers_are_those_of_the_ds_config() -> None:
    step = LONG
    small = zero_of(3, 8, "bf16", preferred="zero3_bf16_small_buckets.json")
    assert (small.bucket, small.live_parameters, small.overlaps) == (5e7, 3e8, False)
    # 3e8 gathered weights and a bucket in 16 bits; the embedding's gradient, larger than the bucket, copied to float32.
    in_float32 = {"sent_bytes": 2}
    buffers = largest(PARAMETERS, dataclasses.replace(small, **in_float32), step, 1).buffers
    assert buffers == 2 * 3e8 + 2 * 5e7 + 4 * EMBEDDING
    usual = Zero(3, 8, "bf16", None)
    assert largest(PARAMETERS, usual, step, 1).buffers == 2 * COUNT + 2 * 5e8 + 4 * 5e8
    assert largest(PARAMETERS, Zero(2, 8, "bf16", None, overlaps=True), step, 1).buffers == 2 * 2 * 5e8


def test_the_page_has_the_buffers_of_each_file() -> None:
    _, table, _ = PAGE.split("Buffers come on top.")[1].split("\n\n", 2)
    rows = [[cell.strip(" `") for cell in line.split("|")[1:4]] for line in table.splitlines()[2:]]
    shown = {name: told for name, *told in rows}
    assert len(shown) == 8
    for name, told in shown.items():
        config = read_ds_config(name)
        precision = next((half for half in HALVES if config.get(half, {}).get("enabled")), "float32")
        zero = zero_of(config["zero_optimization"]["stage"], 8, precision, preferred=name)
        assert zero.ds_config == name
        for cell, size in zip(told, buffer_bytes(zero, PARAMETERS), strict=True):
            assert float(cell) == pytest.approx(size / 1e9, abs=0.005), name


def test_the_largest_moment_counts() -> None:
    zero = Zero(1, 8, "bf16", None)
    assert largest(PARAMETERS, zero, NOTHING, 1).moment == "update"
    moments = {"vocabulary": (9, 8, 7), "first layer": (7, 9, 8), "H layer": (7, 8, 9)}
    for moment, sizes in moments.items():
        assert largest(PARAMETERS, zero, MicroStep(10**10, *(size * 10**8 for size in sizes)), 1).moment == moment
    found = largest(PARAMETERS, zero, MicroStep(10**10, logits=10**9, first_layer=10**8, h_layer=0), 1)
    assert found.moment == "vocabulary" and (found.activations, found.logits) == (10**10, 10**9)
    assert found.total == pytest.approx(2 * COUNT + 6 * COUNT + 12 * COUNT / 8 + 10**10 + 10**9)
    taught = MicroStep(10**10, logits=10**8, first_layer=10**8, h_layer=0, without_gradient=10**9)
    found = largest(PARAMETERS, zero, taught, 1)
    assert (found.moment, found.activations) == ("pass without gradient", 11 * 10**9)


def test_each_stage_takes_a_shipped_file_without_offloading() -> None:
    for stage in (1, 2, 3):
        name = zero_of(stage, 8, "bf16", preferred="cpu.json").ds_config
        assert name == f"zero{stage}_bf16.json" and serves(read_ds_config(name), stage, "bf16")
    assert zero_of(3, 8, "fp16", preferred="zero3_offload.json").ds_config == "zero3_fp16.json"
    assert zero_of(0, 8, "bf16", preferred="zero3_bf16.json").ds_config is None
    assert zero_of(0, 1, "float32", preferred="zero3_fp32.json").ds_config == "cpu.json"


def test_only_what_is_trained_has_gradients_and_moments() -> None:
    """Adapters in a frozen model, by hand: 2 bytes of all weights, 2 + 4 of gradients, 12 / 8 of master and moments."""
    adapters, longest = 10**6, 10**4
    found = largest(Parameters(COUNT, adapters, longest), Zero(1, 8, "bf16", None), NOTHING, 1)
    assert (found.weights, found.gradients, found.optimizer) == (2 * COUNT, 6 * adapters, 12 * adapters / 8)
    cut = largest(Parameters(COUNT, adapters, longest), Zero(3, 8, "bf16", None), LONG, 1)
    assert (cut.weights, cut.gradients) == (2 * COUNT / 8, 4 * adapters / 8 + 2 * longest)
    assert cut.buffers == 2 * COUNT + 2 * 5e8 + 4 * adapters, "frozen weights are gathered as well"


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_other_models_are_whole_on_each_rank(stage: int) -> None:
    taught = Parameters(COUNT, COUNT, EMBEDDING, taught_by=10**8, momentum_bytes=10**7)
    alone, beside = (largest(of, Zero(stage, 8, "bf16", None), NOTHING, 1) for of in (PARAMETERS, taught))
    assert beside.other_models == 2 * 10**8 + 10**7 and alone.other_models == 0
    assert beside.total - alone.total == pytest.approx(beside.other_models)
