"""Bad input to the training commands: one clear line, exit code 2, nothing written."""

from __future__ import annotations

import dataclasses
import shutil
import socket
from pathlib import Path

import pytest
import torch
from launching import launch, run_module, run_script, start_ranks

import veco
from data_tools.shards.manifest import Manifest


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = veco.VecoConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    veco.VecoForMaskedLM(config).save_pretrained(directory)
    return directory


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "{missing}"], "{missing}/manifest.json: no such file"),
        (["--config", "{missing}"], "{missing}: no such file; expected plain 'field: value' lines of a recipe"),
        (["--learning_rate", "fast"], "learning_rate: expected a number, found 'fast'"),
        (["--data", "{data}", "--init_from", "{model}"], "the data's vocabulary has 60 pieces, the model's only 20"),
        (["--data", "{data}", "--resume", "7"], "no checkpoint of step 7; there are: none"),
        (["--data", "{data}", "--ds_config", "none.json"], "ds_config 'none.json': no such file"),
        (["--data", "{data}", "--accumulation_steps", "5"], "cannot be divided evenly by 1 ranks x 5"),
    ],
)
def test_pretraining(arguments: list[str], message: str, random_data: Path, small_model: Path, tmp_path: Path) -> None:
    places = {"missing": str(tmp_path / "missing"), "data": str(random_data), "model": str(small_model)}
    filled = [argument.format(**places) for argument in arguments]
    output = tmp_path / "run"
    result = run_script("pretrain/train.py", *filled, "--output", str(output), "--engine", "plain")
    assert result.returncode == 2
    assert message.format(**places) in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not output.exists()


def test_unknown_field_of_a_recipe(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("output: x\nbatch_size: 3\n")
    result = run_script("pretrain/train.py", "--config", str(recipe))
    assert result.returncode == 2
    assert result.stderr == f"error: recipe {recipe}: unknown field 'batch_size'\n"


def test_world_size_that_the_batch_does_not_divide_by(random_data: Path, tmp_path: Path) -> None:
    arguments = ("--data", str(random_data), "--output", str(tmp_path / "run"), "--mono_batch_pairs", "9")
    result = launch("pretrain/train.py", *arguments)
    assert result.returncode != 0
    told = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert told == [
        "error: mono_batch_pairs 9 cannot be divided evenly by 2 ranks x 1 accumulation steps; choose multiples of 2"
    ]
    assert "Traceback" not in result.stderr


def test_port_that_is_taken(random_data: Path, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        variables = {"MASTER_PORT": other.getsockname()[1]}
        arguments = ("--data", str(random_data), "--output", str(tmp_path / "run"))
        (result,) = start_ranks(1, "pretrain/train.py", *arguments, variables=[variables])
    assert result.returncode == 2 and "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"error: 127.0.0.1:{variables['MASTER_PORT']}: ")
    assert last.endswith("set MASTER_PORT to another port, or unset it: a free one is taken then")


@pytest.mark.slow
def test_ranks_with_other_data_are_named(random_data: Path, tmp_path: Path) -> None:
    """Of another size of vocabulary, with which DeepSpeed itself would wait for ever."""
    other = tmp_path / "other"
    shutil.copytree(random_data, other)
    dataclasses.replace(Manifest.load(random_data), vocab_size=70).save(other)
    arguments = ("--data", "${DATA}", "--output", str(tmp_path / "run"))
    results = start_ranks(2, "pretrain/train.py", *arguments, variables=[{"DATA": random_data}, {"DATA": other}])
    for result in results:
        assert result.returncode == 2
        assert "ranks [1] differ from rank 0 in recipe, data, model; do all nodes see the same?" in result.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_new_run_does_not_overwrite_an_old_one(random_data: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000005"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text("{}")
    arguments = ("--data", str(random_data), "--output", str(tmp_path / "run"), "--engine", "plain")
    result = run_script("pretrain/train.py", *arguments)
    assert result.returncode == 2
    assert "already has checkpoints (newest: step 5); give --resume" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "init_from is not set; directions is not set; train_source is not set"),
        (["--init_from", "{model}"], "expected a model directory with config.json and a tokenizer"),
    ],
)
def test_translation(arguments: list[str], message: str, small_model: Path, tmp_path: Path) -> None:
    filled = [argument.format(model=small_model) for argument in arguments]
    if filled:
        for name in ("train_source", "train_target", "valid_source", "valid_target"):
            filled += [f"--{name}", str(tmp_path / "text")]
        filled += ["--directions", "en-de"]
    result = run_script("finetune/mt/train.py", *filled, "--output", str(tmp_path / "run"), "--engine", "plain")
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_export_of_nothing(tmp_path: Path) -> None:
    result = run_module("pretrain.export", str(tmp_path), "--output", str(tmp_path / "m"))
    assert result.returncode == 2
    assert "expected a run of pre-training or a checkpoint of one, found no run, checkpoint or model" in result.stderr
