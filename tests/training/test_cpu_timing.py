"""Precision and attention by timing: which one is taken, that all ranks take it, and that a run keeps it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pretrain.recipe import PretrainRecipe
from training import cpu_timing
from training.cpu_timing import fastest_times, with_timed_choices
from training.engine.build import build_engine
from training.engine.deepspeed_config import engine_settings, layout_of
from training.recipe.base import BACK_ENDS
from training.recipe.parsing import save_recipe
from veco import VecoConfig, VecoForMaskedLM, attention

RECIPE = PretrainRecipe(output="run", engine="plain", ds_config="zero3_bf16.json")
AMD = {"products": {"bf16": 0.008, "float32": 0.018}, "attention": {"eager": 0.0018, "sdpa": 0.0053}}
NO_BF16_UNIT = {"products": {"bf16": 0.050, "float32": 0.021}, "attention": {"eager": 0.0027, "sdpa": 0.0028}}


@dataclasses.dataclass
class OneOfTwo:
    """A rank of two; `others` is what the other one adds to sums."""

    rank: int = 0
    world_size: int = 2
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))
    others: list[list[float]] = dataclasses.field(default_factory=list)

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        return values + torch.tensor(self.others.pop(0), dtype=values.dtype) if self.others else values


def on_machine(times: dict[str, dict[str, float]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_timing, "product_times", lambda: times["products"])
    monkeypatch.setattr(cpu_timing, "attention_times", lambda dtype, dropout_p: times["attention"])


def choices(recipe: PretrainRecipe, recipe_before: Path | None = None) -> tuple[str, str]:
    chosen, _ = with_timed_choices(recipe, 0.0, OneOfTwo(), recipe_before)
    return chosen.cpu_precision, chosen.attention


def test_the_faster_precision_and_attention_are_taken_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(AMD, monkeypatch)
    chosen, told = with_timed_choices(RECIPE, 0.0, OneOfTwo(), None)
    assert (chosen.cpu_precision, chosen.attention) == ("bf16", "eager")
    assert told["precision"] == "bf16 (timed: bf16 8.0 ms, float32 18.0 ms)"
    assert told["attention"] == "eager (timed: eager 1.8 ms, sdpa 5.3 ms)"
    on_machine(NO_BF16_UNIT, monkeypatch)
    assert choices(RECIPE) == ("float32", "sdpa"), "what is hardly faster is not worth another rounding"


def test_what_the_recipe_says_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(NO_BF16_UNIT, monkeypatch)
    assert choices(dataclasses.replace(RECIPE, cpu_precision="bf16", attention="eager")) == ("bf16", "eager")
    float32 = dataclasses.replace(RECIPE, ds_config="zero3_fp32.json")
    on_machine(AMD, monkeypatch)
    assert choices(float32)[0] == "auto", "a ds_config in float32 leaves nothing to choose"


def test_all_ranks_take_what_rank_0_found(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(NO_BF16_UNIT, monkeypatch)  # as this rank would find
    of_rank_0 = [list(AMD["products"].values()), list(AMD["attention"].values())]
    chosen, _ = with_timed_choices(RECIPE, 0.0, OneOfTwo(rank=1, others=of_rank_0), None)
    assert (chosen.cpu_precision, chosen.attention) == ("bf16", "eager")


def test_a_run_that_goes_on_keeps_its_choices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tmp_path / "recipe.yaml"
    save_recipe(dataclasses.replace(RECIPE, cpu_precision="float32", attention="sdpa"), before)
    on_machine(AMD, monkeypatch)
    assert choices(RECIPE, before) == ("float32", "sdpa")
    assert choices(dataclasses.replace(RECIPE, cpu_precision="bf16"), before) == ("bf16", "sdpa")
    assert choices(dataclasses.replace(RECIPE, ds_config="zero1_bf16.json"), before) == ("bf16", "eager")


def test_accelerators_follow_their_ds_config(monkeypatch: pytest.MonkeyPatch) -> None:
    on_machine(AMD, monkeypatch)
    assert with_timed_choices(RECIPE, 0.0, OneOfTwo(device=torch.device("meta")), None) == (RECIPE, {})


def test_float32_takes_bfloat16_out_of_the_ds_config() -> None:
    recipe = dataclasses.replace(RECIPE, cpu_precision="float32", engine="deepspeed")
    assert layout_of(RECIPE)["precision"] == "float32", "the plain engine stores float32"
    assert layout_of(dataclasses.replace(recipe, cpu_precision="auto"))["precision"] == "bf16"
    assert layout_of(recipe)["precision"] == "float32"
    assert "bf16" not in engine_settings(recipe)
    assert engine_settings(recipe)["zero_optimization"]["stage"] == 3


@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_the_plain_engine_computes_in_the_chosen_precision(precision: str, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, cpu_precision=precision)
    engine = build_engine(torch.nn.Linear(4, 4), recipe, lambda step: 1.0, tmp_path)
    with engine.forward_context():
        computed = engine.model(torch.ones(1, 4)).dtype
    assert computed == {"bf16": torch.bfloat16, "float32": torch.float32}[precision]


@pytest.mark.parametrize("back_end", ["eager", "sdpa"])
def test_the_chosen_attention_is_used_in_training_alone(
    back_end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    for name in ("eager_attention", "scaled_dot_product_attention"):
        function = getattr(attention, name)
        monkeypatch.setattr(attention, name, lambda *a, name=name, function=function: used.append(name) or function(*a))
    config = VecoConfig(
        vocab_size=20, num_hidden_layers=1, hidden_size=8, num_attention_heads=2, intermediate_size=8,
        attention_probs_dropout_prob=0.0, max_position_embeddings=20,
    )  # fmt: skip
    model = VecoForMaskedLM(config)
    build_engine(model, dataclasses.replace(RECIPE, attention=back_end), lambda step: 1.0, tmp_path)
    ids = torch.arange(4, 16).unsqueeze(0)
    model.train()(ids)
    assert used == [{"eager": "eager_attention", "sdpa": "scaled_dot_product_attention"}[back_end]]
    model.eval()(ids)
    assert used[1:] == ["scaled_dot_product_attention"], "the usual one in float32 without dropout"


def test_timing_draws_no_random_number() -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    times = fastest_times({"a": lambda: torch.rand(9).sum(), "b": lambda: None})
    assert torch.equal(torch.rand(2), expected)
    assert set(times) == {"a", "b"}
    assert min(times.values()) >= 0


def test_real_times_of_both_kinds() -> None:
    assert set(cpu_timing.product_times()) == {"bf16", "float32"}
    assert set(cpu_timing.attention_times(torch.float32, 0.1)) == {"eager", "sdpa"}


def test_recipes_know_the_back_ends() -> None:
    assert BACK_ENDS == attention.BACK_ENDS
    with pytest.raises(ValueError, match="expected one of auto, eager, sdpa"):
        attention.use_in_training(torch.nn.Linear(1, 1), "flash")
