"""Stages as they are read, what their fields are worth in each update, and which of them may change on resume."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import get_cosine_schedule_with_warmup, get_wsd_schedule

from pretrain.recipe import PretrainRecipe
from pretrain.stages import Change
from training.recipe.parsing import build_recipe, parse_recipe, save_recipe

MMBERT: list[dict[str, Any]] = [
    {"steps": 60, "warmup_steps": 6, "bilingual_mask_rate": 0.3, "alpha": 0.7},
    {"steps": 30, "bilingual_mask_rate": 0.15, "alpha": 0.5, "bilingual_max_length": 96},
    {"steps": 10, "bilingual_mask_rate": 0.05, "alpha": 0.3, "add_languages": ["yo", "sw"], "schedule": "decay"},
]


def recipe_of(stages: list[dict[str, Any]], **fields: Any) -> PretrainRecipe:
    return build_recipe(PretrainRecipe, {"output": "x", "stages": stages, **fields}, None)


def test_a_flag_and_a_file_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"output": "x", "stages": MMBERT}))
    of_file = parse_recipe(PretrainRecipe, ["--config", str(tmp_path / "r.yaml")])
    assert parse_recipe(PretrainRecipe, ["--output", "x", "--stages", str(MMBERT)]) == of_file
    save_recipe(of_file, tmp_path / "saved.yaml")
    assert parse_recipe(PretrainRecipe, ["--config", str(tmp_path / "saved.yaml")]) == of_file
    assert [(stage.begin, stage.end) for stage in of_file.stages_in_turn()] == [(0, 60), (60, 90), (90, 100)]
    assert of_file.total_steps == 100


def test_numbers_that_yaml_takes_for_text_are_numbers() -> None:
    (stage,) = parse_recipe(PretrainRecipe, ["--output=x", "--stages=[{steps: 5, learning_rate: 2e-4}]"]).stages
    assert stage == {"steps": 5, "learning_rate": 2e-4}


def test_fields_are_those_of_the_stage_and_come_back() -> None:
    recipe = recipe_of([{"steps": 2, "alpha": 0.9}, {"steps": 3}, {"steps": 1, "objective": "mlm"}], alpha=0.4)
    assert [recipe.at(step).alpha for step in range(8)] == [0.9, 0.9, *[0.4] * 6]
    assert [recipe.at(step).objective for step in (4, 5, 9)] == ["ca_mlm+tlm", "mlm", "mlm"]


def test_a_part_may_be_trained_after_everything() -> None:
    stages = [{"steps": 5}, {"steps": 5, "trains": "cross_attention"}, {"steps": 5, "trains": "body"}]
    assert len(build_recipe(PretrainRecipe, {"output": "x", "stages": stages}, None).stages) == 3


def test_stages_share_an_engine_where_they_train_the_same() -> None:
    objectives = ("mlm + tlm", "mlm", "ca_mlm", "contrast", "contrast(layer=1)", "contrast(layer=1) + mlm")
    stages = [{"steps": 1, "objective": objective} for objective in objectives]
    recipe = build_recipe(PretrainRecipe, {"output": "x", "stages": stages}, None)
    assert [(phases[0].begin, phases[0].trained) for phases in recipe.phases_by_engine()] == [
        (0, "everything without cross_attention"),
        (2, "everything"),
        (3, "everything without head, cross_attention"),
        (4, "everything without head, cross_attention, layers above 1"),
        (5, "everything without cross_attention"),
    ]


def test_two_phases_of_the_paper_are_two_stages() -> None:
    short = PretrainRecipe(init_from="m", cross_attention_steps=3, steps=5)
    long = PretrainRecipe(init_from="m", stages=({"steps": 3, "trains": "cross_attention"}, {"steps": 5}))
    assert short.stages_in_turn() == long.stages_in_turn() and short.phases() == long.phases()
    assert [short.lr_factor(step) for step in range(8)] == [long.lr_factor(step) for step in range(8)]
    assert [len(phases) for phases in short.phases_by_engine()] == [1, 1]


@pytest.mark.parametrize(
    ("change", "values"),
    [
        (Change(0.3, 0.1, over=5, parts=0), [0.3, 0.25, 0.2, 0.15, 0.1, 0.1, 0.1]),
        (Change(0.7, 0.3, over=6, parts=3), [0.7, 0.7, 0.5, 0.5, 0.3, 0.3, 0.3]),
        (Change(8, 32, over=8, parts=4), [8, 8, 16, 16, 24, 24, 32, 32, 32]),
        (Change(32, 8, over=5, parts=4), [32, 32, 24, 16, 8, 8]),
    ],
)
def test_values_on_the_way(change: Change, values: list[float]) -> None:
    found = [change.at(made) for made in range(len(values))]
    assert found == pytest.approx(values, rel=1e-12) and found[change.over - 1] == change.end
    assert all(type(value) is type(change.start) for value in found)
    if change.parts:
        begins = [made for made in range(1, len(values)) if found[made] != found[made - 1]]
        assert change.borders() == begins


def test_fields_change_inside_a_stage() -> None:
    recipe = recipe_of(
        [
            {"steps": 10},
            {
                "steps": 32,
                "mono_mask_rate": {"from": 0.3, "to": 0.15},
                "alpha": {"from": 0.7, "to": 0.4},
                "mono_batch_pairs": {"from": 16, "to": 64, "over": 8},
            },
        ]
    )
    rates = [recipe.at(10 + made).mono_mask_rate for made in range(32)]
    assert rates == pytest.approx([0.3 - 0.15 * made / 31 for made in range(32)]) and rates[-1] == 0.15
    assert [recipe.at(10 + made).mono_batch_pairs for made in range(10)] == [16, 16, 32, 32, 48, 48, *[64] * 4]
    alphas = [recipe.at(10 + made).alpha for made in range(32)]
    assert len(set(alphas)) == 16 and (alphas[0], alphas[-1]) == (0.7, 0.4)
    assert recipe.at(9).mono_mask_rate == 0.15 and recipe.at(9).mono_batch_pairs == 64


def rates(schedule: Any, steps: int) -> list[float]:
    """The rates of a schedule of transformers."""
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return found


def adam() -> torch.optim.Optimizer:
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)


def test_warm_up_stable_decay_is_that_of_transformers() -> None:
    """It warms up from 0, we to the first update's share: the warm-up itself is compared with what is behind it."""
    recipe = recipe_of(
        [{"steps": 50}, {"steps": 25, "schedule": "decay"}], schedule="constant", warmup_steps=10, learning_rate=0.5
    )
    expected = rates(
        get_wsd_schedule(adam(), num_warmup_steps=10, num_stable_steps=40, num_decay_steps=25, decay_type="1-sqrt"), 75
    )
    assert [recipe.lr_factor(step) for step in range(10)] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert [recipe.lr_factor(step) for step in range(10, 75)] == pytest.approx(expected[10:], abs=1e-12)


def test_cosine_is_that_of_transformers() -> None:
    recipe = PretrainRecipe(schedule="cosine", steps=40, warmup_steps=8)
    expected = rates(get_cosine_schedule_with_warmup(adam(), 8, 40), 40)
    assert [recipe.lr_factor(step) for step in range(8, 40)] == pytest.approx(expected[8:], abs=1e-12)


def test_a_schedule_goes_on_over_borders_that_do_not_touch_it() -> None:
    whole = PretrainRecipe(steps=30, warmup_steps=4)
    parts = recipe_of([{"steps": 10}, {"steps": 20, "alpha": 0.3}], warmup_steps=4)
    assert [parts.lr_factor(step) for step in range(30)] == [whole.lr_factor(step) for step in range(30)]
    assert [len(phases) for phases in parts.phases_by_engine()] == [2]


def test_a_stage_with_a_rate_begins_a_schedule_and_warms_up_if_it_says_so() -> None:
    stages = [{"steps": 4, "schedule": "constant"}, {"steps": 4, "learning_rate": 2e-4}]
    recipe = recipe_of(stages, learning_rate=1e-4, warmup_steps=2)
    assert [recipe.lr_factor(step) for step in range(8)] == pytest.approx([0.5, 1, 1, 1, 2, 1.5, 1, 0.5])
    warm = recipe_of([stages[0], {**stages[1], "warmup_steps": 2}], learning_rate=1e-4, warmup_steps=2)
    assert [warm.lr_factor(step) for step in range(4, 8)] == pytest.approx([1, 2, 2, 1])
    # Begun once more in the middle of the second, with its warm-up, over what is left.
    assert [recipe.lr_factor(step, schedule_start=5) for step in range(5, 8)] == pytest.approx([1, 2, 2])


def test_inverse_sqrt_without_a_warm_up_falls_as_behind_one() -> None:
    """By the recipe's warm-up, not from its peak at once."""
    stages = [{"steps": 100}, {"steps": 100, "learning_rate": 5e-4}]
    recipe = recipe_of(stages, schedule="inverse_sqrt", warmup_steps=50, learning_rate=1e-3)
    assert recipe.lr_factor(99) == pytest.approx((50 / 100) ** 0.5)
    assert [recipe.lr_factor(100 + n) for n in (0, 50)] == pytest.approx([(50 / 51) ** 0.5 / 2, (50 / 101) ** 0.5 / 2])
    warm = recipe_of([stages[0], {**stages[1], "warmup_steps": 10}], schedule="inverse_sqrt", learning_rate=1e-3)
    assert [warm.lr_factor(100 + n) for n in (0, 9, 39)] == pytest.approx([0.05, 0.5, 0.25])


def test_other_objectives_train_other_parameters() -> None:
    phases = recipe_of([{"steps": 1, "objective": "mlm+tlm"}, {"steps": 1, "objective": "mlm"}, {"steps": 1}])
    assert [[(phase.begin, phase.end) for phase in group] for group in phases.phases_by_engine()] == [
        [(0, 1), (1, 2)],
        [(2, 3)],
    ]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([{"alpha": 0.3}], "stages: stage 1: steps is not set: the number of its updates"),
        ([{"steps": 5}, {"steps": 0}], "stages: stage 2: steps 0 must be at least 1"),
        ([{"steps": 4, "span_length": {"from": 0, "to": 2}}], "stage 1: span_length changes between 0.0 and 2.0, over"),
        ([{"steps": "ten"}], "stages: stage 1: steps: expected a whole number, found 'ten'"),
        ([{"steps": 5, "alhpa": 0.3}], "stages: stage 1: unknown field 'alhpa', did you mean 'alpha'?"),
        (
            [{"steps": 5, "dropout": 0.3}],
            "stage 1: dropout is the same in the whole run; a stage may set steps, add_lang",
        ),
        ([{"steps": 5, "alpha": 2}], "stage 1: alpha 2.0 must lie between 0 and 1"),
        ([{"steps": 5, "alpha": "much"}], "stage 1: alpha: expected a number, found 'much'"),
        ([{"steps": 5, "alpha": [0.3]}], "stage 1: alpha: expected one value, found [0.3]"),
        (
            [{"steps": 5, "schedule": "wsd"}],
            "stage 1: schedule 'wsd' must be one of linear, cosine, inverse_sqrt, const",
        ),
        ([{"steps": 5, "trains": "heads"}], "stage 1: trains 'heads' must be one of everything, cross_attention"),
        ([{"steps": 5, "trains": "cross_attention"}], "stage 1: trains cross_attention needs init_from"),
        (
            [{"steps": 5, "trains": "cross_attention"}, {"steps": 5, "trains": "body"}, {"steps": 5}],
            "stage 2: trains body needs init_from: the rest of the model would stay random",
        ),
        ([{"steps": 5, "mono_max_length": 600}], "stage 1: max_position_embeddings 514 must be at least 602"),
        (
            [{"steps": 5, "mono_max_length": {"from": 8, "to": 16}}],
            "stage 1: mono_max_length: cannot change inside a st",
        ),
        (
            [{"steps": 5, "schedule": {"from": 1, "to": 2}}],
            "stage 1: schedule: cannot change inside a stage; these can",
        ),
        ([{"steps": 5, "alpha": {"from": 0.7}}], "stage 1: alpha: expected {from: 0.3, to: 0.15}, perhaps with over"),
        ([{"steps": 5, "alpha": {"from": 0.7, "to": 0.7}}], "stage 1: alpha does not change from 0.7 to 0.7"),
        ([{"steps": 1, "alpha": {"from": 0.7, "to": 0.3}}], "stage 1: alpha cannot change over 1 of 1 updates"),
        ([{"steps": 5, "alpha": {"from": 0, "to": 1, "over": 9}}], "stage 1: alpha cannot change over 9 of 5 updates"),
        (
            [{"steps": 5, "mono_batch_pairs": {"from": 7, "to": 64}}],
            "stage 1: mono_batch_pairs cannot change from 7 to 64: in steps of their greatest common divisor it has 58 "
            "values, and over 5 updates at most 5 are possible",
        ),
        (
            [{"steps": 999, "mono_batch_pairs": {"from": 1, "to": 99}}],
            "it has 99 values, and over 999 updates at most 64",
        ),
        ([{"steps": 9, "mono_batch_pairs": {"from": 0, "to": 8}}], "stage 1: mono_batch_pairs 0 must be at least 1"),
        ([{"steps": 5, "mono_mask_rate": {"from": 0.3, "to": 1.5}}], "stage 1: mono_mask_rate 1.5 must be at least 0"),
        ([{"steps": 5, "languages": ["en"], "add_languages": ["de"]}], "stage 1: languages names all of them: leave"),
        ([{"steps": 5, "languages": 3}], "stage 1: languages: expected a list such as [en, de], or en,de, found 3"),
        ({"steps": 5}, "stages: expected a list such as [{steps: 100}, {steps: 50, alpha: 0.3}], found {'steps': 5}"),
        (["steps"], "stages: expected a list such as"),
        ("[{steps: 5}", "stages: not valid YAML: "),
        ("[{steps: 5, steps: 6}]", "stages: not valid YAML: "),
    ],
)
def test_bad_stages_are_told_in_a_line(stages: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        recipe_of(stages)
    assert "\n" not in str(error.value)


def test_a_problem_of_the_recipe_itself_is_told_once() -> None:
    with pytest.raises(ValueError) as error:
        recipe_of([{"steps": 5}, {"steps": 5, "alpha": 0.3}], learning_rate=-1)
    assert str(error.value) == "recipe (command line): learning_rate -1.0 must be above 0"


@pytest.mark.parametrize("field", ["steps", "cross_attention_steps"])
def test_updates_are_those_of_the_stages_alone(field: str) -> None:
    told = f"{field} 5 is not used, as stages decides: leave one of them out, or give stages null"
    with pytest.raises(ValueError, match=re.escape(told)):
        recipe_of([{"steps": 5}], **{field: 5})
    assert build_recipe(PretrainRecipe, {"output": "x", "stages": None, "steps": 5}, None).total_steps == 5


def test_a_list_for_a_field_with_one_value_is_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("alpha: expected one value, found [0.3, 0.5]")):
        build_recipe(PretrainRecipe, {"output": "x", "alpha": [0.3, 0.5]}, None)


def test_languages_that_are_added_are_in_none_before() -> None:
    recipe = recipe_of(MMBERT).with_languages_of({"en", "de", "yo", "sw"}, set())
    assert [recipe.at(step).languages for step in (0, 60, 90)] == [("de", "en")] * 2 + [("de", "en", "sw", "yo")]
    later = recipe_of([{"steps": 1}, {"steps": 1, "add_languages": "de"}, {"steps": 1}], languages=["en"])
    resolved = later.with_languages_of({"en", "de", "yo"}, set())
    assert [resolved.at(step).languages for step in range(3)] == [("en",), ("de", "en"), ("de", "en")]
    assert recipe_of([{"steps": 1}]).with_languages_of({"en"}, set()).at(0).languages is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stages": MMBERT}, "stage 3: add_languages: the data have no yo, sw; there are: de, en"),
        (
            {"stages": [{"steps": 1, "languages": ["en", "fr"]}]},
            "stage 1: languages: the data have no fr; there are: de",
        ),
        ({"stages": [{"steps": 1, "pairs": ["en-de"]}]}, "stage 1: pairs: the data have no en-de; there are: de-en"),
        ({"languages": "en,fr"}, "languages: the data have no fr; there are: de, en"),
    ],
)
def test_languages_that_the_data_do_not_have(fields: dict[str, Any], message: str) -> None:
    recipe = build_recipe(PretrainRecipe, {"output": "x", **fields}, None)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        recipe.with_languages_of({"de", "en"}, {"de-en"})


@pytest.mark.parametrize(
    ("before", "now", "step", "message"),
    [
        ([{"steps": 5}, {"steps": 5, "alpha": 0.3}], [{"steps": 5}, {"steps": 9, "alpha": 0.1}], 5, ""),
        ([{"steps": 5}, {"steps": 5, "alpha": 0.3}], [{"steps": 5}, {"steps": 9, "alpha": 0.3}], 8, ""),
        ([{"steps": 5}, {"steps": 5}], [{"steps": 5}], 5, ""),
        ([{"steps": 5}, {"steps": 5}], [{"steps": 5}], 6, ""),
        ([{"steps": 5}], [{"steps": 3}], 5, ""),
        ([{"steps": 5}, {"steps": 5}], [{"steps": 6}, {"steps": 5}], 6, "stage 1 was {'steps': 5}, is {'steps': 6}"),
        ([{"steps": 5}], [{"steps": 5, "alpha": 0.3}], 3, "stage 1 was {'steps': 5}, is {'steps': 5, 'alpha': 0.3}"),
        ([{"steps": 5}], [{"steps": 2}, {"steps": 9}], 3, "stage 1 was {'steps': 5}, is {'steps': 2}"),
        (
            [{"steps": 5, "alpha": {"from": 0.7, "to": 0.3}}],
            [{"steps": 9, "alpha": {"from": 0.7, "to": 0.3}}],
            3,
            "stage 1 was ",
        ),
        (
            [{"steps": 5, "alpha": {"from": 0.7, "to": 0.3}}],
            [{"steps": 9, "alpha": {"from": 0.7, "to": 0.3, "over": 5}}],
            3,
            "",
        ),
    ],
)
def test_the_past_stays(before: list[dict], now: list[dict], step: int, message: str) -> None:
    old = vars(recipe_of(before))
    found = recipe_of(now).past_difference(old, step)
    assert found.startswith(message) and bool(found) == bool(message)


def test_the_largest_stage_decides_accumulation() -> None:
    stages = [
        {"steps": 4, "mono_batch_pairs": {"from": 16, "to": 64}, "mono_max_length": 32},
        {"steps": 4, "mono_batch_pairs": 32, "mono_max_length": 128},
    ]
    recipe = recipe_of(stages, micro_batch_tokens=2048, accumulation_steps="auto")
    assert recipe.accumulated(1, ["mono"]).accumulation_steps == 4  # 8 pairs of 2 x 128 tokens
    with pytest.raises(ValueError, match="mono_batch_pairs 16 and .* cannot be divided evenly by 3 ranks"):
        recipe.accumulated(3, ["mono"])
