"""The recipes that come with us, and one line for what cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import veco
import veco.convert
from finetune.understanding import recipe as recipe_module
from finetune.understanding.recipe import UnderstandingRecipe
from finetune.understanding.search import RATES
from finetune.understanding.tasks.catalogues import XTREME, catalogue_named
from finetune.understanding.understanding_task import UnderstandingTask
from training.recipe.parsing import build_recipe, parse_recipe

TASKS = catalogue_named(XTREME).tasks

RECIPES = sorted((Path(recipe_module.__file__).parent / "recipes").glob("*.yaml"))
PUBLISHED = [path for path in RECIPES if not path.stem.startswith("general")]


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_recipes_are_sound_and_in_the_published_grid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VECO_RUNS", "VECO_MODEL", "VECO_CORPORA"):
        monkeypatch.setenv(name, f"/{name.lower()}")
    recipe = parse_recipe(UnderstandingRecipe, ["--config", str(path)])
    translated = path.stem.endswith("_translate_train_all")
    assert (recipe.task, recipe.setting == "translate-train-all") == (
        path.stem.removesuffix("_translate_train_all"),
        translated,
    )
    assert recipe.learning_rate in [float(rate) for rate in RATES[recipe.setting].split(",")]
    assert recipe.epochs in (3, 5, 10) and recipe.batch_size in (16, 32, 64)


@pytest.mark.parametrize(("name", "first_rate"), [("general", 0.1), ("general_answers", 1.0)])
def test_warmup_of_general_recipes(name: str, first_rate: float) -> None:
    """A tenth of all updates, or none as in SQuAD's usual recipe."""
    own = ["--task", "xnli", "--data", "d", "--init_from", "m", "--output", "o", "--epochs", "0", "--steps", "100"]
    path = next(path for path in RECIPES if path.stem == name)
    assert parse_recipe(UnderstandingRecipe, ["--config", str(path), *own]).lr_factor(0) == first_rate


def test_every_trained_task_has_both() -> None:
    trained = [name for name, task in TASKS.items() if not task.is_retrieval]
    assert {path.stem for path in PUBLISHED} == {
        f"{name}{end}" for name in trained for end in ("", "_translate_train_all")
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task": "xnlli"}, "unknown task 'xnlli'; XTREME has xnli, pawsx"),
        ({"task": "tatoeba"}, "task tatoeba has no training; finetune.understanding.predict compares embeddings"),
        ({"task": ""}, "task is not set"),
        ({"plug_in": "true"}, "plug_in needs setting translate-train-all"),
        ({"setting": "zero-shot"}, "setting 'zero-shot' must be one of transfer, translate-train-all"),
        ({"pair_prediction": "average", "task": "panx"}, "pair_prediction 'average' is for one prediction"),
        ({"batch_size": 32, "micro_batch_size": 5}, "batch_size 32 must be a multiple of micro_batch_size 5"),
        ({"stride": 0}, "stride 0 must be at least 1"),
    ],
)
def test_wrong_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    sound = {"task": "xnli", "data": "d", "init_from": "m", "output": "o"}
    build_recipe(UnderstandingRecipe, sound, None)
    with pytest.raises(ValueError, match="recipe") as found:
        build_recipe(UnderstandingRecipe, {**sound, **fields}, None)
    assert message in str(found.value)


def copy_tokenizer(source: Path, directory: Path) -> None:
    for path in source.iterdir():
        if "token" in path.name or "sentencepiece" in path.name:
            shutil.copy(path, directory)


@pytest.fixture(scope="module")
def model_without_cross_attention(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned model that is plugged out, with its tokenizer."""
    directory = tmp_path_factory.mktemp("plugged-out")
    config = veco.VecoConfig.from_pretrained(tiny_model)
    veco.VecoForSequenceClassification(config).save_pretrained(directory)
    copy_tokenizer(tiny_model, directory)
    return directory


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": "{missing}"}, "no train file of xnli for the language 'en'"),
        ({"init_from": "{missing}"}, "expected a model directory with config.json and a tokenizer"),
        ({"max_length": 65}, "max_length 65 exceeds the 64 tokens the model takes"),
        ({"task": "xquad", "max_length": 20}, "max_length 20 must be at least 69: max_question_length 64"),
        (
            {"setting": "translate-train-all", "languages": "fr"},
            "no translate-train file of xnli for the language 'fr'",
        ),
        ({"setting": "translate-train-all", "languages": "xx"}, "xnli has no translations into xx"),
        (
            {"setting": "translate-train-all", "plug_in": "true", "init_from": "{plugged_out}"},
            "plugged in, it must have cross-attention",
        ),
    ],
)
def test_wrong_input_is_refused(
    fields: dict[str, Any],
    message: str,
    xtreme_data: Path,
    tiny_model: Path,
    model_without_cross_attention: Path,
    tmp_path: Path,
) -> None:
    places = {"missing": tmp_path / "missing", "plugged_out": model_without_cross_attention}
    filled = {name: value.format(**places) if isinstance(value, str) else value for name, value in fields.items()}
    sound = {"task": "xnli", "data": str(xtreme_data), "init_from": str(tiny_model), "max_length": 24, "output": "o"}
    with pytest.raises(ValueError, match=".") as found:
        UnderstandingTask(build_recipe(UnderstandingRecipe, {**sound, **filled}, None))
    assert message in str(found.value) and "\n" not in str(found.value)


def test_a_tokenizer_that_does_not_fit_is_refused(tiny_model: Path, xtreme_data: Path, tmp_path: Path) -> None:
    config = veco.VecoConfig.from_pretrained(tiny_model, vocab_size=50)
    veco.VecoForMaskedLM(config).save_pretrained(tmp_path)
    copy_tokenizer(tiny_model, tmp_path)
    fields = {"task": "xnli", "data": str(xtreme_data), "init_from": str(tmp_path), "output": "o"}
    with pytest.raises(ValueError, match="its tokenizer has 70 pieces, the model only 50"):
        UnderstandingTask(build_recipe(UnderstandingRecipe, fields, None))


def test_a_random_start_ignores_the_weights(tiny_model: Path, xtreme_data: Path) -> None:
    fields = {"task": "xnli", "data": str(xtreme_data), "init_from": str(tiny_model), "max_length": 24, "output": "o"}
    name = "veco.layers.0.feed_forward.up_proj.weight"
    expected = veco.VecoForMaskedLM.from_pretrained(tiny_model).state_dict()[name]
    kept, fresh = (
        UnderstandingTask(build_recipe(UnderstandingRecipe, {**fields, "init": init}, None)).model
        for init in ("pretrained", "random")
    )
    assert torch.equal(kept.state_dict()[name], expected)
    assert not torch.equal(fresh.state_dict()[name], expected)


def test_xlm_roberta_is_a_start_too(tiny_model: Path, xtreme_data: Path, tmp_path: Path) -> None:
    veco.convert.to_xlm_roberta(veco.VecoForMaskedLM.from_pretrained(tiny_model)).save_pretrained(tmp_path)
    copy_tokenizer(tiny_model, tmp_path)
    fields = {"task": "xnli", "data": str(xtreme_data), "max_length": 24, "output": "o"}
    ours, theirs = (
        UnderstandingTask(
            build_recipe(UnderstandingRecipe, {**fields, "init_from": str(directory)}, None)
        ).model.veco.state_dict()
        for directory in (tiny_model, tmp_path)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())
