"""Settings that a card cannot compute with."""

from __future__ import annotations

import pytest

from training.recipe.ds_config import problem_of_card, read_ds_config


@pytest.mark.parametrize(
    ("capability", "name", "is_refused"),
    [
        ((7, 0), "zero3_bf16.json", True),  # V100
        ((7, 5), "zero1_bf16.json", True),  # T4
        ((7, 0), "zero1_fp16.json", False),
        ((7, 0), "zero3_fp32.json", False),
        ((8, 0), "zero3_bf16.json", False),  # A100
        ((12, 0), "zero3_bf16.json", False),  # Blackwell
    ],
)
def test_bf16_is_refused_below_sm_80_naming_what_to_take(
    capability: tuple[int, int], name: str, is_refused: bool
) -> None:
    told = problem_of_card(name, read_ds_config(name), capability)
    assert bool(told) is is_refused
    if is_refused:
        assert name in told and "zero1_fp16.json" in told and "\n" not in told
        assert f"sm_{capability[0]}{capability[1]}" in told
