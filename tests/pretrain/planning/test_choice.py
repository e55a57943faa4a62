"""What is chosen, and that it is the largest that fits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from pretrain.planning.activations import Storage
from pretrain.planning.cards import CARDS, GIB, Card, find_card
from pretrain.planning.choice import USABLE, make_plan, possible_accumulations, recipe_fragment
from pretrain.planning.memory import rank_memory, zero_of
from pretrain.planning.workload import Workload, plan_workload, read_recipe, recipe_precision
from pretrain.recipe import PretrainRecipe
from training.recipe.ds_config import read_ds_config
from training.recipe.parsing import build_recipe, read_yaml

RECIPES = Path(__file__).resolve().parents[3] / "pretrain" / "recipes"


@pytest.fixture(scope="module")
def large() -> Workload:
    return plan_workload(read_recipe(RECIPES / "large.yaml"), None, [], None)


def with_pairs(workload: Workload, mono: int, bilingual: int, **fields: Any) -> Workload:
    recipe = dataclasses.replace(workload.recipe, mono_batch_pairs=mono, bilingual_batch_pairs=bilingual, **fields)
    return plan_workload(recipe, None, [], None)


def test_accumulation_steps_divide_both_kinds(large: Workload) -> None:
    assert possible_accumulations(large, 64) == [1, 2, 4, 8, 16]
    assert possible_accumulations(with_pairs(large, 36, 24), 2) == [1, 2, 3, 6]
    with pytest.raises(ValueError, match=r"mono_batch_pairs 1024 .* by 6 GPUs; choose multiples of 6"):
        possible_accumulations(with_pairs(large, 1024, 6), 6)


def test_what_is_planned_keeps_together_what_training_does(large: Workload) -> None:
    """Groups of contrast_pairs; what training asks for by micro_batch_tokens is among the numbers that are planned."""
    grouped = with_pairs(large, 1024, 1024, objective="ca_mlm + tlm + contrast", contrast_pairs=64)
    assert possible_accumulations(grouped, 4) == [1, 2, 4]
    assert possible_accumulations(grouped, 16) == [1]
    with pytest.raises(ValueError, match=r"contrast_pairs 64: 32 GPUs would cut apart .* 1024: 64"):
        possible_accumulations(grouped, 32)
    joined = with_pairs(large, 1024, 24, objective="mlm + xlco")
    assert possible_accumulations(joined, 4) == [1], "six pairs of a rank, two in a row of xlco, and 256"


@pytest.mark.parametrize(("gpus", "name"), [(8, "h100-80"), (8, "a100-40"), (64, "v100-32"), (8, "l4")])
def test_the_next_larger_micro_batch_does_not_fit(large: Workload, gpus: int, name: str) -> None:
    plan = make_plan(large, CARDS[name], gpus, "bf16", 0.35)
    accumulations = possible_accumulations(large, gpus)
    for way in plan.ways:
        assert way.memory.total <= USABLE * plan.card.memory or not way.fits
        place = accumulations.index(way.accumulation)
        if place and way.fits:
            fewer = accumulations[place - 1]
            pairs = {kind: count * way.accumulation // fewer for kind, count in way.pairs.items()}
            assert pairs["mono"] * fewer * gpus == 1024
            memory = rank_memory(large, way.zero, Storage(2, way.recompute), pairs, fewer)
            assert memory.total > USABLE * plan.card.memory


def test_a_rented_machine_needs_neither_stage_3_nor_recomputation(large: Workload) -> None:
    way = make_plan(large, CARDS["h100-80"], 8, "bf16", 0.35).choice
    assert way is not None and (way.zero.stage, way.recompute) == (1, False)


def test_little_memory_cuts_more_before_it_recomputes(large: Workload) -> None:
    """Stage 1 keeps 5.8 GiB, 2 + 6 + 12 / 8 bytes a parameter, and a pair of 512 tokens 1.5 GiB beside its logits."""
    plan = make_plan(large, Card("small", 10 * GIB, {"bf16": 100.0}, ""), 8, "bf16", 0.35)
    fits = {(way.zero.stage, way.recompute): way.fits for way in plan.ways}
    assert not fits[0, False] and not fits[0, True]  # 18 bytes a parameter are 11 GiB
    assert plan.choice is not None and not plan.choice.recompute and plan.choice.zero.stage > 1


def test_nothing_may_fit(large: Workload) -> None:
    plan = make_plan(large, Card("tiny", GIB, {"bf16": 100.0}, ""), 8, "bf16", 0.35)
    assert plan.choice is None and recipe_fragment(plan) == ""
    assert all(way.pairs == {"mono": 1, "bilingual": 4} for way in plan.ways)


def test_stage_3_is_no_way_to_train_beside_a_momentum_encoder(large: Workload) -> None:
    """Runs refuse it, since the weights that the encoder follows are cut into parts."""
    followed = dataclasses.replace(large, parameters=dataclasses.replace(large.parameters, momentum_bytes=10**9))
    for workload, stages in ((large, {0, 1, 2, 3}), (followed, {0, 1, 2})):
        assert {way.zero.stage for way in make_plan(workload, CARDS["h100-80"], 8, "bf16", 0.35).ways} == stages


def test_a_card_without_bfloat16_gets_float16(large: Workload) -> None:
    plan = make_plan(large, CARDS["v100-32"], 64, "bf16", 0.35)
    assert plan.precision == "fp16" and plan.choice is not None
    assert "fp16" in str(plan.choice.zero.ds_config)
    with pytest.raises(ValueError, match="odd has no peak for float32, only for bf16"):
        Card("odd", GIB, {"bf16": 1.0}, "").precision("float32")


def test_the_fragment_is_taken_by_the_recipe_that_it_is_for(large: Workload) -> None:
    plan = make_plan(large, CARDS["h100-80"], 8, "bf16", 0.35)
    fragment = yaml.safe_load(recipe_fragment(plan))
    assert fragment == {
        "ds_config": "zero1_bf16.json",
        "activation_checkpointing": False,
        "accumulation_steps": "auto",
        "micro_batch_tokens": 16_384,
        "peak_tflops": 989.4,
    }
    paths = {"output": "run", "data": "data", "init_from": "model"}
    recipe = build_recipe(PretrainRecipe, read_yaml(RECIPES / "large.yaml") | fragment | paths, None)
    assert recipe.accumulated(8, ["mono", "bilingual"]).accumulation_steps == plan.choice.accumulation == 8


def test_cards_are_found_by_name_or_given() -> None:
    assert find_card("l4", None, None).peak_tflops["bf16"] == 121.0
    own = find_card(None, 48.0, 362.0)
    assert own.memory == 48 * GIB and own.peak_tflops == {"bf16": 362.0, "fp16": 362.0, "float32": 362.0}
    with pytest.raises(ValueError, match="--gpu 'h100': expected one of v100-32, a100-40"):
        find_card("h100", None, None)
    for given in ((None, 48.0, None), ("l4", 48.0, None), (None, None, None)):
        with pytest.raises(ValueError, match="expected either --gpu .* or both --memory and --tflops"):
            find_card(*given)
    with pytest.raises(ValueError, match="--memory -1 and --tflops 3 must be above 0"):
        find_card(None, -1.0, 3.0)


@pytest.mark.parametrize(
    ("name", "gpus", "cards", "accumulation"),
    [
        ("large", 8, ("h100-80", "a100-80"), 8),
        ("large", 64, ("h100-80", "a100-80"), 1),
        ("large_64x32gb", 64, ("v100-32",), 2),
        ("small", 1, ("l4", "rtx4090"), 32),
    ],
)
def test_shipped_recipe_fits_its_cards_and_twice_its_micro_batch_does_not(
    name: str, gpus: int, cards: tuple[str, ...], accumulation: int
) -> None:
    """With its own ZeRO stage, recomputation and accumulation; on more cards there is no larger share to take."""
    workload = plan_workload(read_recipe(RECIPES / f"{name}.yaml"), None, [], None)
    recipe = workload.recipe.accumulated(gpus, list(workload.kinds))
    config = read_ds_config(recipe.ds_config)
    precision = recipe_precision(recipe)
    zero = zero_of(config["zero_optimization"]["stage"], gpus, precision, recipe.ds_config)
    assert (zero.ds_config, zero.stage, recipe.accumulation_steps) == (recipe.ds_config, 1, accumulation)
    storage = Storage(zero.number, recipe.activation_checkpointing)

    def memory(steps: float) -> float:
        pairs = {kind: int(of.batch_pairs / (gpus * steps)) for kind, of in workload.kinds.items()}
        return rank_memory(workload, zero, storage, pairs, max(1, int(steps))).total

    for card in cards:
        assert precision in CARDS[card].peak_tflops
        assert memory(accumulation) <= USABLE * CARDS[card].memory < memory(accumulation / 2)


def test_recipe_for_other_cards_differs_in_what_cards_decide() -> None:
    """The values of the paper are in both, and stay the same."""
    large, v100 = (read_yaml(RECIPES / f"{name}.yaml") for name in ("large", "large_64x32gb"))
    assert large.keys() == v100.keys()
    assert {name for name in large if large[name] != v100[name]} == {"output", "ds_config", "micro_batch_tokens"}
