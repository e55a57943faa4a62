"""A teacher beside ZeRO-3 on two processes: losses of one plain process, resumed to the bit, no weight of it kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from launching import launch, overriding, run_script
from nli_model import write_classifier
from safetensors.torch import load_file
from trained_weights import consolidated_weights
from xtreme_files import write_model, write_xtreme

from data_tools.shards.manifest import Manifest
from pretrain.models.initial_model import build_model
from pretrain.recipe import PretrainRecipe
from training.checkpoints.finding import checkpoints_of

STEPS = 4
OBJECTIVE = "mlm + distil(states=0.5, logits=0.5, heads=4, plugged_in=True)"
ARGUMENTS = (
    *("--num_hidden_layers", "2", "--hidden_size", "32", "--num_attention_heads", "2", "--intermediate_size", "48"),
    *("--max_position_embeddings", "66", "--mono_max_length", "24", "--bilingual_max_length", "18"),
    *("--mono_batch_pairs", "8", "--bilingual_batch_pairs", "8", "--dropout", "0", "--attention_dropout", "0"),
    *("--warmup_steps", "0", "--learning_rate", "5e-3", "--steps", str(STEPS), "--log_every", "1", "--save_every", "2"),
    *("--ds_config", "zero3_fp32.json", "--loader_workers", "0", "--cpu_processes", "1", "--objective", OBJECTIVE),
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def teacher(random_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deeper and wider than the student."""
    shape = {"num_hidden_layers": 3, "hidden_size": 48, "num_attention_heads": 6, "initializer_range": 0.2}
    lengths = {"max_position_embeddings": 66, "mono_max_length": 24, "bilingual_max_length": 18}
    recipe = PretrainRecipe(output="x", seed=7, **shape, **lengths)
    directory = tmp_path_factory.mktemp("teacher") / "veco"
    build_model(recipe, random_data, Manifest.load(random_data)).save_pretrained(directory)
    return directory


def losses(run_dir: Path) -> list[dict[str, float]]:
    """Every loss term and the gradient norm of each update."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name.startswith(("mono/", "bilingual/", "grad_norm"))}
        for line in lines
    ]


@pytest.fixture(scope="module")
def zero3_run(random_data: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("zero3") / "run"
    arguments = ("--data", str(random_data), "--output", str(run_dir), "--teacher", str(teacher), *ARGUMENTS)
    result = launch("pretrain/train.py", *arguments, "--accumulation_steps", "2")
    assert result.returncode == 0, result.stderr[-3000:]
    return run_dir


def test_two_processes_equal_the_plain_run(zero3_run: Path, random_data: Path, teacher: Path, tmp_path: Path) -> None:
    arguments = ("--data", str(random_data), "--output", str(tmp_path / "run"), "--teacher", str(teacher))
    result = run_script("pretrain/train.py", *arguments, "--engine", "plain", *ARGUMENTS)
    assert result.returncode == 0, result.stderr[-3000:]
    ours, reference = losses(zero3_run), losses(tmp_path / "run")
    assert len(ours) == len(reference) == STEPS
    assert {"mono/distil_relations", "mono/distil_cross_logits"} <= reference[0].keys()
    for step, (one, other) in enumerate(zip(ours, reference, strict=True)):
        for name, value in other.items():
            assert one[name] == pytest.approx(value, rel=1e-5 if name != "grad_norm" else 1e-4), (step, name)
    weights = (consolidated_weights(checkpoints_of(run)[STEPS]) for run in (zero3_run, tmp_path / "run"))
    for (name, one), other in zip(sorted(next(weights).items()), sorted(next(weights).items()), strict=True):
        torch.testing.assert_close(one, other[1], rtol=0, atol=1e-5, msg=name)
        assert "teacher" not in name


def test_resumed_run_is_the_undisturbed_one_bit_for_bit(
    zero3_run: Path, random_data: Path, teacher: Path, tmp_path: Path
) -> None:
    run_dir = Path(shutil.copytree(zero3_run, tmp_path / "run"))
    shutil.rmtree(checkpoints_of(run_dir)[STEPS])
    arguments = ("--data", str(random_data), "--output", str(run_dir), "--teacher", str(teacher), *ARGUMENTS)
    result = launch("pretrain/train.py", *overriding(*arguments, "--accumulation_steps", "2", "--resume", "auto"))
    assert result.returncode == 0, result.stderr[-3000:]
    assert losses(run_dir) == losses(zero3_run)
    ours, theirs = (consolidated_weights(checkpoints_of(of)[STEPS]) for of in (run_dir, zero3_run))
    assert all(torch.equal(weight, theirs[name]) for name, weight in ours.items())


FINETUNING = (
    *("--task", "pawsx", "--setting", "translate-train-all", "--plug_in", "--max_length", "24", "--epochs", "1"),
    *("--batch_size", "8", "--learning_rate", "5e-3", "--dropout", "0", "--attention_dropout", "0", "--log_every", "1"),
    *("--ds_config", "zero3_fp32.json", "--loader_workers", "0", "--teacher_states", "0.5", "--teacher_every_layer"),
)


def test_states_of_a_finetuned_teacher_on_two_processes_equal_the_plain_run(tmp_path: Path) -> None:
    """In two parts of an update on each rank; the teacher is deeper and wider than the student."""
    write_xtreme(tmp_path / "data", num_train=24, num_test=4)
    write_model(tmp_path / "model")
    write_model(tmp_path / "wide", num_hidden_layers=3, hidden_size=48)
    plugged_in = {"plug_in": True, "setting": "translate-train-all"}
    teacher = write_classifier(tmp_path / "wide", tmp_path / "teacher", "pawsx", **plugged_in)
    places = ("--data", tmp_path / "data", "--init_from", tmp_path / "model", "--teacher", teacher)
    arguments = (*FINETUNING, *map(str, places))
    script = "finetune/understanding/train.py"
    result = launch(script, *arguments, "--output", str(tmp_path / "two"), "--accumulation_steps", "2")
    assert result.returncode == 0, result.stderr[-3000:]
    result = run_script(script, *arguments, "--output", str(tmp_path / "plain"), "--engine", "plain")
    assert result.returncode == 0, result.stderr[-3000:]
    ours, reference = (finetuning_losses(tmp_path / name) for name in ("two", "plain"))
    assert len(ours) == len(reference) > 2 and all("train/pawsx_states" in line for line in reference)
    for one, other in zip(ours, reference, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    for name in ("two", "plain"):
        assert not [
            weight for weight in load_file(tmp_path / name / "best" / "model.safetensors") if "teacher" in weight
        ]


def finetuning_losses(run_dir: Path) -> list[dict[str, float]]:
    """Every loss term of each update."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    named = [{name: value for name, value in line.items() if name.startswith("train/")} for line in lines]
    return [line for line in named if line]
