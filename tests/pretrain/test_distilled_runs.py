"""Runs with a teacher: a student that agrees with it, resumed to the bit, exported without it, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from run_curves import curve
from safetensors.torch import load_file
from trained_weights import consolidated_weights
from transformers import AutoConfig, AutoModelForMaskedLM

from data_tools.shards.manifest import Manifest
from data_tools.tokenizers.files import write_tokenizer
from data_tools.tokenizers.unigram_training import train_model
from pretrain.export import Form, export
from pretrain.models.initial_model import build_model
from pretrain.pretraining import PretrainingTask
from pretrain.recipe import PretrainRecipe
from training import run as training_run
from training.checkpoints.finding import checkpoints_of, read_state
from training.engine import plain_engine
from training.recipe.parsing import build_recipe
from training.run import train_run
from veco.convert import to_xlm_roberta

OBJECTIVE = "mlm + distil(states=0.5, logits=0.5, heads=4, plugged_in=True)"
TERMS = ("relations", "states", "logits")
TINY: dict[str, Any] = {
    **{"engine": "plain", "ds_config": "zero3_fp32.json", "attention": "eager"},
    **{"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24},
    **{"max_position_embeddings": 66, "dropout": 0.1, "attention_dropout": 0.0},
    **{"mono_max_length": 24, "bilingual_max_length": 12, "mono_batch_pairs": 12, "bilingual_batch_pairs": 12},
    **{"warmup_steps": 0, "learning_rate": 5e-3, "log_every": 1, "save_every": 1, "keep_checkpoints": 99},
    **{"steps": 1, "loader_workers": 0, "validate_batches": 1},
}


@pytest.fixture(autouse=True)
def small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_engine, "share_cores", lambda: torch.set_num_threads(1))
    monkeypatch.setattr(training_run, "plot_curves", lambda run_dir: run_dir / "curves.png")


def make_teacher(data: Path, directory: Path, **fields: Any) -> Path:
    shape = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "seed": 7, "initializer_range": 0.2}
    recipe = PretrainRecipe(output="x", **{**TINY, **shape, **fields})
    build_model(recipe, data, Manifest.load(data)).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def teacher(random_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that is deeper and wider than the students, without tokenizer, as are the data."""
    return make_teacher(random_data, tmp_path_factory.mktemp("teacher") / "veco")


def run(data: Path, run_dir: Path, **fields: Any) -> list[dict[str, Any]]:
    """What of the lines of metrics does not depend on the time."""
    train_run(PretrainRecipe(output=str(run_dir), data=str(data), **{**TINY, **fields}), PretrainingTask.on(data))
    return curve(run_dir)


@pytest.fixture(scope="module")
def whole_run(random_data: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("distilled") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_run, "plot_curves", lambda run_dir: run_dir / "curves.png")
        run(random_data, run_dir, objective=OBJECTIVE, teacher=str(teacher), steps=4)
    return run_dir


def test_metrics_have_each_term_by_kind(whole_run: Path) -> None:
    for line, kind in zip(curve(whole_run), ("mono", "bilingual"), strict=False):
        for name in (f"{path}_{term}" for path in ("distil", "distil_cross") for term in TERMS):
            assert line[f"{kind}/{name}"] > 0
            assert (f"train/{kind}_{name}_accuracy" in line) == name.endswith("logits"), "others are not right or wrong"
            assert f"train/{kind}_{name}_perplexity" not in line


def test_losses_are_the_same_for_any_accumulation(
    whole_run: Path, random_data: Path, teacher: Path, tmp_path: Path
) -> None:
    fields = {"objective": OBJECTIVE, "teacher": str(teacher), "steps": 3, "dropout": 0.0}
    found = [
        run(random_data, tmp_path / str(accumulation), accumulation_steps=accumulation, **fields)
        for accumulation in (1, 3)
    ]
    for one, other in zip(*found, strict=True):
        for name in (name for name in one if name.startswith(("mono/", "bilingual/"))):
            assert other[name] == pytest.approx(one[name], rel=1e-4)


@pytest.mark.parametrize("step", [1, 2])
def test_resumed_run_is_the_undisturbed_one_bit_for_bit(
    whole_run: Path, random_data: Path, teacher: Path, tmp_path: Path, step: int
) -> None:
    """Also with the teacher in another place."""
    moved = shutil.copytree(teacher, tmp_path / "moved")
    shutil.copytree(whole_run, tmp_path / "run")
    for later in range(step + 1, 5):
        shutil.rmtree(checkpoints_of(tmp_path / "run")[later])
    fields = {"objective": OBJECTIVE, "teacher": str(moved), "steps": 4, "resume": "auto"}
    assert run(random_data, tmp_path / "run", **fields) == curve(whole_run)
    ours, theirs = (consolidated_weights(checkpoints_of(of)[4]) for of in (tmp_path / "run", whole_run))
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


def test_another_teacher_is_refused(whole_run: Path, random_data: Path, tmp_path: Path) -> None:
    other = make_teacher(random_data, tmp_path / "other", seed=8)
    shutil.copytree(whole_run, tmp_path / "run")
    fields = {"objective": OBJECTIVE, "teacher": str(other), "steps": 5, "resume": "auto"}
    with pytest.raises(ValueError, match="cannot be resumed: .*teacher_fingerprint"):
        run(random_data, tmp_path / "run", **fields)


@pytest.mark.parametrize(("width", "matrix"), [(24, "one to a width of 24"), (16, "none")])
def test_a_teacher_of_another_width_is_refused_though_another_is_allowed(
    width: int, matrix: str, whole_run: Path, random_data: Path, tmp_path: Path
) -> None:
    """The checkpoint has weights and moments of the matrix to its own teacher's width, or has none to give."""
    other = make_teacher(random_data, tmp_path / "other", hidden_size=width, num_attention_heads=2)
    shutil.copytree(whole_run, tmp_path / "run")
    fields = {"objective": OBJECTIVE, "teacher": str(other), "steps": 5, "resume": "auto"}
    with pytest.raises(ValueError, match=f"to the width .* was one to a width of 32, would be {matrix}; give the"):
        run(random_data, tmp_path / "run", change="teacher_fingerprint", **fields)


def test_a_teacher_that_comes_later_brings_no_matrix(random_data: Path, teacher: Path, tmp_path: Path) -> None:
    stages = ({"steps": 1, "objective": "mlm"}, {"steps": 1, "objective": OBJECTIVE})
    run(random_data, tmp_path / "run", stages=stages[:1])
    fields = {"stages": stages, "teacher": str(teacher), "resume": "auto", "change": "stages,teacher_fingerprint"}
    with pytest.raises(ValueError, match="cannot be resumed: .* was none, "):
        run(random_data, tmp_path / "run", **fields)


def test_teacher_is_neither_in_checkpoints_nor_in_the_model(whole_run: Path, teacher: Path, tmp_path: Path) -> None:
    checkpoint = checkpoints_of(whole_run)[4]
    own = consolidated_weights(checkpoint)
    assert own["objective_modules.distil.projection.weight"].shape == (32, 16)
    assert not [name for name, weight in own.items() if "teacher" in name or 4 * 32 in weight.shape]
    assert read_state(checkpoint)["teacher_fingerprint"]
    export(whole_run, tmp_path / "model", form=Form(dtype="float32"))
    student = AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    assert (student.config.num_hidden_layers, student.config.hidden_size) == (2, 16)
    assert not [name for name in load_file(tmp_path / "model" / "model.safetensors") if "distil" in name]
    assert AutoConfig.from_pretrained(teacher).num_hidden_layers == 4


def test_half_of_a_teachers_layers_agrees_more_with_it_than_a_model_trained_alone(
    random_data: Path, tmp_path: Path
) -> None:
    teacher = make_teacher(random_data, tmp_path / "teacher")
    fields = {"steps": 16, "keep_checkpoints": 1, "save_every": 16, "dropout": 0.0, "init_from": str(teacher)}
    fields |= {"keep_layers": (2, 4), "learning_rate": 1e-2}
    distilled = "mlm + distil(heads=4, states=1, logits=4)"
    run(random_data, tmp_path / "distilled", objective=distilled, teacher=str(teacher), **fields)
    run(random_data, tmp_path / "alone", objective="mlm", **fields)
    ids = torch.arange(4, 58).view(6, 9)
    models = [AutoModelForMaskedLM.from_pretrained(teacher)]
    models += [
        AutoModelForMaskedLM.from_pretrained(export(tmp_path / name, tmp_path / f"{name}-model"), dtype=torch.float32)
        for name in ("distilled", "alone")
    ]
    with torch.no_grad():
        of_teacher, of_distilled, of_alone = (model.eval()(ids).logits.softmax(-1) for model in models)
    assert models[1].config.num_hidden_layers == models[2].config.num_hidden_layers == 2
    assert (of_distilled - of_teacher).abs().mean() < 0.75 * (of_alone - of_teacher).abs().mean()


def test_kept_layers_are_those_of_the_model(random_data: Path, teacher: Path) -> None:
    recipe = PretrainRecipe(output="x", **TINY, init_from=str(teacher), keep_layers=(4, 1))
    student = build_model(recipe, random_data, Manifest.load(random_data))
    whole = AutoModelForMaskedLM.from_pretrained(teacher)
    assert student.config.num_hidden_layers == len(student.veco.layers) == 2
    for own, theirs in zip(student.veco.layers, (whole.veco.layers[3], whole.veco.layers[0]), strict=True):
        assert all(map(torch.equal, own.parameters(), theirs.parameters()))
    assert [layer.cross_attention.layer_idx for layer in student.veco.layers] == [0, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": "mlm + distil", "teacher": None}, "objective distil needs a teacher, and none is given"),
        ({"objective": "mlm"}, "only objective distil reads it; add it"),
        ({"keep_layers": [1]}, "keep_layers are those of init_from: give it"),
        (
            {"keep_layers": "first"},
            "keep_layers: expected numbers of layers such as .2, 4, 6., or 2,4,6, found 'first'",
        ),
        ({"keep_layers": "0,1"}, "keep_layers: expected numbers of layers"),
    ],
)
def test_wrong_recipes_are_told(fields: dict[str, Any], message: str) -> None:
    values = {"output": "x", "teacher": "somewhere", "objective": OBJECTIVE, **fields}
    with pytest.raises(ValueError, match=message):
        build_recipe(PretrainRecipe, values, None)


def test_stages_may_begin_with_the_teacher() -> None:
    stages = [{"steps": 2, "objective": "mlm"}, {"steps": 2, "objective": OBJECTIVE}]
    values = {"output": "x", "teacher": "somewhere", "objective": "mlm", "stages": stages}
    assert build_recipe(PretrainRecipe, values, None).teacher == "somewhere"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"teacher": "nowhere"}, "teacher nowhere: expected a model directory, found nothing"),
        ({"objective": "distil(heads=3)"}, "distil: heads 3 must divide the student's width 16 and the teacher's"),
        ({"objective": "distil(layer=5)"}, "distil: layer 5 must be at most 4, the layers of the teacher"),
        ({"mono_max_length": 80, "max_position_embeddings": 82}, "batches may have 80 tokens a row, it only takes 64"),
        ({"init_from": "TEACHER", "keep_layers": (1, 5)}, "keep_layers 5 must be from 1 to 4, the layers of init_from"),
        ({"init_from": "TEACHER", "keep_layers": (1, 1)}, "keep_layers 1,1 names a layer twice"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_update(
    random_data: Path, teacher: Path, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    values = {"objective": OBJECTIVE, "teacher": str(teacher), **fields}
    values = {name: str(teacher) if value == "TEACHER" else value for name, value in values.items()}
    with pytest.raises(ValueError, match=message):
        run(random_data, tmp_path / "run", **values)


def test_teacher_with_other_pieces_is_refused(word_data: Path, tmp_path: Path) -> None:
    teacher = make_teacher(word_data, tmp_path / "teacher")
    shutil.copytree(word_data / "tokenizer", teacher, dirs_exist_ok=True)
    fields = {"objective": OBJECTIVE, "teacher": str(teacher)}
    run(word_data, tmp_path / "run", **fields)
    text = ["Something else is in these lines.", "Quite another text, with other words"] * 9
    other = tmp_path / "other"
    other.mkdir()
    write_tokenizer(train_model(iter(text), 30, character_coverage=1.0), other, text)
    shutil.copytree(other, teacher, dirs_exist_ok=True)
    with pytest.raises(ValueError, match=f"teacher {teacher}: .* was prepared with another tokenizer"):
        run(word_data, tmp_path / "run-2", **fields)


def test_path_s_of_an_xlm_r_is_refused(random_data: Path, teacher: Path, tmp_path: Path) -> None:
    to_xlm_roberta(AutoModelForMaskedLM.from_pretrained(teacher)).save_pretrained(tmp_path / "xlm-r")
    with pytest.raises(ValueError, match="an xlm-roberta has no cross-attention to learn from"):
        run(random_data, tmp_path / "run", objective=OBJECTIVE, teacher=str(tmp_path / "xlm-r"))
    run(random_data, tmp_path / "run", objective="distil(heads=4)", teacher=str(tmp_path / "xlm-r"), steps=1)
