"""ZeRO-3 on two processes against the plain one-process run, and what a run leaves: resume, export, curves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from launching import launch, overriding, run_module, run_script
from trained_weights import consolidated_weights
from transformers import AutoModel, AutoModelForMaskedLM

import veco
from training.checkpoints.finding import checkpoints_of

TOLERANCE = 1e-5  # relative, float32; sums are taken in another order
STEPS = 5
TRAINING = (
    *("--mono_max_length", "24", "--bilingual_max_length", "18"),
    *("--mono_batch_pairs", "8", "--bilingual_batch_pairs", "12", "--dropout", "0", "--attention_dropout", "0"),
    *("--steps", str(STEPS), "--warmup_steps", "2", "--learning_rate", "5e-3", "--log_every", "1", "--save_every", "3"),
    *("--ds_config", "zero3_fp32.json", "--loader_workers", "0", "--cpu_processes", "1"),
)
SHAPE = (
    *("--num_hidden_layers", "2", "--hidden_size", "32", "--num_attention_heads", "2", "--intermediate_size", "48"),
    *("--max_position_embeddings", "66", *TRAINING),
)


def lines(run_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def losses(run_dir: Path) -> list[dict[str, float]]:
    """Every loss term and the gradient norm of each update."""
    return [
        {name: value for name, value in line.items() if "/" in name or name in ("grad_norm", "lr")}
        for line in lines(run_dir)
    ]


@pytest.fixture(scope="module")
def zero3_run(random_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("zero3") / "run"
    # Two accumulation steps here, one in the plain run: DeepSpeed's averaging over both is undone.
    arguments = ("--data", str(random_data), "--output", str(run_dir), *SHAPE, "--accumulation_steps", "2")
    result = launch("pretrain/train.py", *arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    return run_dir


@pytest.fixture(scope="module")
def plain_run(random_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("plain") / "run"
    arguments = ("--data", str(random_data), "--output", str(run_dir), "--engine", "plain", *SHAPE)
    result = run_script("pretrain/train.py", *arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    return run_dir


def test_zero3_on_two_processes_equals_the_plain_run(zero3_run: Path, plain_run: Path) -> None:
    ours, reference = losses(zero3_run), losses(plain_run)
    assert len(ours) == len(reference) == STEPS
    assert {name for line in ours for name in line} >= {"mono/mlm", "mono/ca_mlm", "bilingual/tlm", "grad_norm"}
    for step, (one, other) in enumerate(zip(ours, reference, strict=True)):
        for name, value in other.items():
            assert one[name] == pytest.approx(value, rel=TOLERANCE if name != "grad_norm" else 1e-4), (step, name)
    assert reference[-1] != reference[0]


def test_zero3_weights_equal_the_plain_runs(zero3_run: Path, plain_run: Path) -> None:
    ours, reference = (consolidated_weights(checkpoints_of(run)[STEPS]) for run in (zero3_run, plain_run))
    for name, weight in reference.items():
        if name != "lm_head.decoder.weight":  # tied
            torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-5, msg=name)


def resumed(run_dir: Path, from_step: int, data: Path, *arguments: str) -> None:
    """Take the checkpoints after `from_step` away and go on from there."""
    for step, checkpoint in checkpoints_of(run_dir).items():
        if step > from_step:
            shutil.rmtree(checkpoint)
    result = launch("pretrain/train.py", "--data", str(data), "--output", str(run_dir), "--resume", *arguments)
    assert result.returncode == 0, result.stderr[-3000:]


def test_resumed_run_is_the_undisturbed_one_bit_for_bit(random_data: Path, tmp_path: Path) -> None:
    """In bfloat16 and with dropout, whose randomness must come back too."""
    changed = ("--ds_config", "zero3_bf16.json", "--dropout", "0.1", "--attention_dropout", "0.1")
    arguments = overriding(*SHAPE, *changed)
    undisturbed, run_dir = tmp_path / "undisturbed", tmp_path / "run"
    result = launch("pretrain/train.py", "--data", str(random_data), "--output", str(undisturbed), *arguments)
    assert result.returncode == 0, result.stderr[-3000:]
    shutil.copytree(undisturbed, run_dir)
    resumed(run_dir, 3, random_data, *arguments)
    assert losses(run_dir) == losses(undisturbed)
    assert [line["step"] for line in lines(run_dir)] == [1, 2, 3, 4, 5]


def test_export_opens_by_auto_classes_and_gives_the_trained_weights(zero3_run: Path, tmp_path: Path) -> None:
    model_dir = tmp_path / "model"
    exact = ("--dtype", "float32")
    result = run_module("pretrain.export", str(zero3_run), "--output", str(model_dir), *exact)
    assert result.returncode == 0, result.stderr
    assert (model_dir / "model.safetensors").is_file() and (model_dir / "tokenizer_config.json").is_file()
    model = AutoModelForMaskedLM.from_pretrained(model_dir)
    assert isinstance(model, veco.VecoForMaskedLM)
    assert isinstance(AutoModel.from_pretrained(model_dir), veco.VecoModel)
    trained = consolidated_weights(checkpoints_of(zero3_run)[STEPS])
    for name, weight in model.state_dict().items():
        if name != "lm_head.decoder.weight":
            torch.testing.assert_close(weight, trained[name], rtol=0, atol=0, msg=name)
    other = run_module("pretrain.export", str(zero3_run), "--output", str(tmp_path / "early"), "--step", "3", *exact)
    assert other.returncode == 0, other.stderr
    early = AutoModelForMaskedLM.from_pretrained(tmp_path / "early")
    assert not torch.equal(early.lm_head.dense.weight, model.lm_head.dense.weight)


def test_run_leaves_curves_tensorboard_and_quiet_output(zero3_run: Path) -> None:
    assert (zero3_run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((zero3_run / "tensorboard").glob("events.out.tfevents.*"))
    assert (zero3_run / "logs" / "deepspeed-rank1.log").is_file()
    assert not list(zero3_run.rglob("*.partial"))


def test_export_without_such_a_checkpoint(zero3_run: Path, tmp_path: Path) -> None:
    result = run_module("pretrain.export", str(zero3_run), "--output", str(tmp_path / "m"), "--step", "4")
    assert result.returncode == 2
    assert result.stderr == f"error: {zero3_run}: no checkpoint of step 4; there are: 3, 5\n"
    assert not (tmp_path / "m").exists()


def test_two_phases_train_cross_attention_first(plain_run: Path, random_data: Path, tmp_path: Path) -> None:
    """From an exported model: a phase for theta_c alone, then all; under ZeRO-3 with two engines in one run."""
    model_dir, run_dir = tmp_path / "model", tmp_path / "run"
    exported = run_module("pretrain.export", str(plain_run), "--output", str(model_dir), "--dtype", "float32")
    assert exported.returncode == 0, exported.stderr
    phases = ("--init_from", str(model_dir), "--cross_attention_steps", "3", "--keep_checkpoints", "9")
    training = overriding(*TRAINING, *phases, "--steps", "3")
    result = launch("pretrain/train.py", "--data", str(random_data), "--output", str(run_dir), *training)
    assert result.returncode == 0, result.stderr[-3000:]
    again = tmp_path / "again"
    shutil.copytree(run_dir, again)
    resumed(again, 3, random_data, *training)  # exactly at the border of the phases
    for one, other in zip(losses(again), losses(run_dir), strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    start = AutoModelForMaskedLM.from_pretrained(model_dir).state_dict()
    after_first, after_both = (consolidated_weights(checkpoints_of(run_dir)[step]) for step in (3, 6))
    for name, weight in start.items():
        if name == "lm_head.decoder.weight":
            continue
        changed = not torch.equal(weight, after_first[name])
        is_key_bias = name.endswith("k_proj.bias")  # softmax ignores it: its gradient is zero up to rounding
        assert changed == (".cross_attention" in name) or is_key_bias, name
        assert not torch.equal(weight, after_both[name]) or is_key_bias or "embeddings.position" in name, name
