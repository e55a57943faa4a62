import re
from pathlib import Path

import pytest

from finetune.mt.train import TranslationRecipe
from pretrain.ds_config import DS_CONFIGS, read_ds_config
from pretrain.recipe import build_recipe, parse_recipe, read_yaml, save_recipe
from pretrain.train import PretrainRecipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = [(PretrainRecipe, path) for path in sorted((ROOT / "pretrain" / "recipes").glob("*.yaml"))]
RECIPES += [(TranslationRecipe, path) for path in sorted((ROOT / "finetune" / "mt" / "recipes").glob("*.yaml"))]


@pytest.mark.parametrize(("recipe_class", "path"), RECIPES, ids=lambda value: getattr(value, "stem", ""))
def test_every_shipped_recipe_is_sound(recipe_class, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECO_CORPORA", "/corpora")
    monkeypatch.setenv("VECO_RUNS", "/runs")
    recipe = build_recipe(recipe_class, read_yaml(path), path)
    read_ds_config(recipe.ds_config)


@pytest.mark.parametrize("path", sorted(DS_CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_every_ds_config_is_read(path: Path) -> None:
    assert "zero_optimization" in read_ds_config(path.name)


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("output: here\nlearning_rate: 2e-4\nsteps: 50\n")
    recipe = parse_recipe(PretrainRecipe, ["--config", str(path), "--steps", "7", "--resume"])
    assert (recipe.output, recipe.learning_rate, recipe.steps, recipe.warmup_steps) == ("here", 2e-4, 7, 100)
    assert recipe.resume == "auto"


def test_all_problems_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("output: x\nlearning_rat: 1\nsteps: many\nadam_beta1: 1.5\nds_config: none.json\n")
    with pytest.raises(ValueError) as error:
        parse_recipe(PretrainRecipe, ["--config", str(path)])
    message = str(error.value)
    assert "unknown field 'learning_rat', did you mean 'learning_rate'?" in message
    assert "steps: expected a whole number, found 'many'" in message
    assert "adam_beta1 1.5 must be" in message
    assert "ds_config 'none.json': no such file; ds_configs/ has cpu.json, " in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["- a\n- b\n", "model: {layers: 3}\n", "a: b: c\n"])
def test_files_that_are_no_recipes(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="r.yaml"):
        read_yaml(path)


def test_unset_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE_AT_ALL", raising=False)
    values = {"output": "${NOWHERE_AT_ALL}/x", "init_from": "${NOWHERE_AT_ALL}/y", "cross_attention_steps": 5}
    with pytest.raises(ValueError) as error:
        build_recipe(PretrainRecipe, values, None)
    told = [f"{name}: environment variable in '{values[name]}' is not set" for name in ("output", "init_from")]
    assert str(error.value) == f"recipe (command line): {'; '.join(told)}", "and nothing that follows from it"


def test_saved_recipe_reads_back(tmp_path: Path) -> None:
    recipe = build_recipe(PretrainRecipe, {"output": "x", "resume": False, "init_from": None, "alpha": "0.7"}, None)
    assert recipe.resume == "no"
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert parse_recipe(PretrainRecipe, ["--config", str(tmp_path / "recipe.yaml")]) == recipe


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "camlm"}, "objective 'camlm' must be one of ca_mlm+tlm, ca_mlm, mlm+tlm, mlm, clm"),
        ({"mask_token_share": 0.8, "random_token_share": 0.3}, "must not be negative, nor above 1 together"),
        ({"span_length": 0.5}, "span_length 0.5 must be 0 or at least 1"),
        (
            {"bilingual_mask_rate": 0.3, "bilingual_mask_spread": 0.4},
            "bilingual_mask_spread 0.4 must not be",
        ),
        ({"validate_batches": -1}, "validate_batches -1 must not be negative"),
        ({"peak_tflops": 0}, "peak_tflops 0.0 must be above 0"),
        ({"cpu_precision": "fp8"}, "cpu_precision 'fp8' must be one of auto, bf16, float32"),
        (
            {"cpu_precision": "bf16", "ds_config": "zero3_fp32.json"},
            "cpu_precision 'bf16': ds_config zero3_fp32.json does not enable bf16",
        ),
        ({"attention": "flash"}, "attention 'flash' must be one of auto, eager, sdpa"),
        (
            {"objective": "mlm", "cross_attention_steps": 5, "init_from": "x"},
            "objective 'mlm' does not train the cross-attention",
        ),
    ],
)
def test_objectives_and_masks_that_cannot_be(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build_recipe(PretrainRecipe, {"output": "x", **values}, None)


def test_phase_one_needs_a_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cross_attention_steps needs init_from"):
        build_recipe(PretrainRecipe, {"output": "x", "cross_attention_steps": 5}, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"bf16": {"enabled": "auto"}}', '"auto" is not understood'),
        ('{"bf61": {}}', "unknown key bf61"),
        ('{"optimizer": {}}', "optimizer belongs into the recipe"),
        ('{"checkpoint": {"writer": {"decoupled": true}}}', "checkpoint.writer: a decoupled writer would still write"),
        ('["bf16"]', "expected an object, found a list"),
        ("{", "not JSON"),
    ],
)
def test_ds_configs_that_would_do_harm(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "ds.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_ds_config(str(path))
