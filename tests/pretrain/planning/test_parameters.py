"""Numbers of parameters by hand, for a model of any shape and for what a recipe puts beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretrain.planning.parameters import Parameters, model_without_values, parameters_of
from pretrain.planning.workload import Workload, plan_workload, read_recipe
from pretrain.recipe import PretrainRecipe
from veco import VecoConfig

D, F, V, P, LAYERS = 32, 48, 60, 514, 3
NORM = 2 * D
ATTENTION = 4 * (D * D + D)
LAYER = ATTENTION + NORM + 2 * D * F + D + F + NORM  # without its cross-attention
CROSS = ATTENTION + NORM
EMBEDDINGS = V * D + P * D + NORM
HEAD = D * D + D + NORM + V
MODEL = EMBEDDINGS + LAYERS * (LAYER + CROSS) + HEAD


@pytest.mark.parametrize(
    ("config", "count", "width"), [(VecoConfig.large(), 660_952_210, 1024), (VecoConfig.small(), 249_950_610, 768)]
)
def test_they_are_the_models(config: VecoConfig, count: int, width: int) -> None:
    recipe = PretrainRecipe(output="-")
    found = parameters_of(model_without_values(recipe, config, None), recipe)
    assert found == Parameters(count, count, largest=250_002 * width)


def save_config(directory: Path, **changes: int) -> Path:
    shape = {"hidden_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": F}
    VecoConfig(vocab_size=V, max_position_embeddings=P, **(shape | changes)).save_pretrained(directory)
    return directory


def planned(directory: Path, text: str) -> Workload:
    path = directory / "recipe.yaml"
    path.write_text(f"init_from: {save_config(directory / 'model')}\n{text}\n")
    return plan_workload(read_recipe(path), None, [], None)


def test_what_a_model_has_beside_its_shape_is_counted(tmp_path: Path) -> None:
    """A matrix of its own behind the head; positions behind padding that is far behind."""
    untied = save_config(tmp_path / "untied", tie_word_embeddings=False)
    path = tmp_path / "recipe.yaml"
    path.write_text(f"init_from: {untied}\n")
    assert plan_workload(read_recipe(path), None, [], None).parameters.model == MODEL + V * D
    far = save_config(tmp_path / "far", pad_token_id=V - 1, padding_position=1)
    path.write_text(f"init_from: {far}\nteacher: {far}\nobjective: mlm + distil\n")
    assert plan_workload(read_recipe(path), None, [], None).parameters.taught_by == MODEL


def test_layers_that_are_not_there_are_refused_as_by_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep_layers 9 must be from 1 to"):
        planned(tmp_path, "keep_layers: 1,9")


@pytest.mark.parametrize(
    ("fields", "added", "trained", "largest"),
    [
        ("trains: cross_attention", 0, LAYERS * CROSS, D * D),
        ("trains: embeddings", 0, V * D + V, V * D),
        ("trains: body", 0, MODEL - V * D - V, P * D),
        ("objective: mlm", 0, MODEL - LAYERS * CROSS, P * D),
        ("trains: adapters\nadapter: pfeiffer\nadapter_reduction: 4", *(LAYERS * (2 * D * 8 + 8 + D),) * 2, D * 8),
        ("trains: adapters\nlora_rank: 2\nlora_targets: .*up_proj", *(LAYERS * 2 * (D + F),) * 2, 2 * F),
    ],
)
def test_what_is_trained_is_counted(tmp_path: Path, fields: str, added: int, trained: int, largest: int) -> None:
    if "lora" in fields:
        pytest.importorskip("peft")
    assert planned(tmp_path, fields).parameters == Parameters(MODEL + added, trained, largest)


def test_of_stages_the_one_that_trains_most_counts(tmp_path: Path) -> None:
    stages = "stages: [{steps: 5, trains: cross_attention}, {steps: 5, trains: body}]"
    found = planned(tmp_path, stages)
    assert found.parameters == Parameters(MODEL, MODEL - V * D - V, P * D)
    assert any(note.startswith("updates that train a part of the model alone") for note in found.notes)


def test_a_teacher_lies_beside_the_model(tmp_path: Path) -> None:
    """Its own width, so that the student has a matrix to compare states with."""
    teacher = save_config(tmp_path / "teacher", hidden_size=64, num_hidden_layers=1)
    found = planned(tmp_path, f"teacher: {teacher}\nobjective: mlm + distil(states=1)")
    wide = 64
    attention, norm = 4 * (wide * wide + wide), 2 * wide
    of_layer = 2 * (attention + norm) + 2 * wide * F + wide + F + norm
    of_teacher = V * wide + P * wide + norm + of_layer + wide * wide + wide + norm + V
    assert found.parameters.taught_by == of_teacher
    assert found.parameters.model == MODEL + D * wide + wide
    assert found.teacher is not None and found.teacher.hidden_size == wide
    assert not planned(tmp_path, "objective: mlm").parameters.taught_by


def test_a_momentum_encoder_and_its_queue_are_in_float32(tmp_path: Path) -> None:
    found = planned(
        tmp_path, "ds_config: zero1_bf16.json\nobjective: mlm + xlco(layer=2, queue=7, project=true)"
    ).parameters
    encoder = EMBEDDINGS + 2 * LAYER
    place_of_the_oldest = 8
    assert found.momentum_bytes == 4 * (encoder + D * D + 7 * D) + place_of_the_oldest
    assert found.model == MODEL + D * D


def test_only_kept_layers_count(tmp_path: Path) -> None:
    found = planned(tmp_path, "keep_layers: [1, 3]")
    assert found.config.num_hidden_layers == 2 and found.parameters.model == MODEL - LAYER - CROSS


def test_a_teacher_that_is_yet_to_be_trained_counts_as_veco_large(tmp_path: Path) -> None:
    found = planned(tmp_path, f"teacher: {tmp_path}/some-run\nobjective: mlm + distil(logits=1)")
    assert found.parameters.taught_by == 660_952_210 - (250_002 - V) * (1024 + 1)
    assert any(note.startswith("a teacher of VECO-large's shape") for note in found.notes)


def test_the_shipped_student_needs_no_teacher_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VECO_RUNS", raising=False)
    path = Path(__file__).resolve().parents[3] / "pretrain" / "recipes" / "distilled.yaml"
    workload = plan_workload(read_recipe(path), None, [], None)
    assert workload.parameters.taught_by == 660_952_210
