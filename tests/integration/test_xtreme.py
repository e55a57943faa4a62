"""A task of XTREME by the commands that a user types, under ZeRO-3 on two ranks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from launching import launch, run_module, run_script
from xtreme_files import write_model, write_xtreme

from training.checkpoints.finding import checkpoints_of

SCRIPT = "finetune/understanding/train.py"
ARGUMENTS = (
    *("--task", "xquad", "--setting", "translate-train-all", "--plug_in", "--max_length", "24", "--stride", "8"),
    *("--max_question_length", "8", "--epochs", "2", "--batch_size", "8", "--learning_rate", "5e-3"),
    *("--dropout", "0", "--attention_dropout", "0", "--ds_config", "zero3_fp32.json", "--log_every", "1"),
    *("--loader_workers", "0", "--keep_checkpoints", "2"),
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    root = tmp_path_factory.mktemp("xtreme")
    write_xtreme(root / "data", num_train=20, num_test=6)
    write_model(root / "model")
    return ("--data", str(root / "data"), "--init_from", str(root / "model"))


def lines(run_dir: Path) -> list[dict[str, float]]:
    kept = ("train/xquad", "valid/average", "valid/en/f1", "grad_norm", "step")
    read = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in kept if name in line} for line in read]


@pytest.mark.slow
def test_zero3_equals_the_plain_run_and_resumes(places: tuple[str, ...], tmp_path: Path) -> None:
    two, plain, resumed = tmp_path / "two", tmp_path / "plain", tmp_path / "resumed"
    result = launch(SCRIPT, *ARGUMENTS, *places, "--output", str(two), "--micro_batch_size", "4")
    assert result.returncode == 0, result.stderr[-3000:]
    result = run_script(SCRIPT, *ARGUMENTS, *places, "--output", str(plain), "--engine", "plain")
    assert result.returncode == 0, result.stderr[-3000:]
    assert len(lines(two)) == len(lines(plain)) > 6
    for one, other in zip(lines(two), lines(plain), strict=True):
        assert one == pytest.approx(other, rel=1e-3)
    shutil.copytree(two, resumed)
    shutil.rmtree(checkpoints_of(resumed)[max(checkpoints_of(resumed))])
    result = launch(SCRIPT, *ARGUMENTS, *places, "--output", str(resumed), "--micro_batch_size", "4", "--resume")
    assert result.returncode == 0, result.stderr[-3000:]
    assert lines(resumed) == lines(two)


def test_bad_input_is_one_line(places: tuple[str, ...], tmp_path: Path) -> None:
    output = tmp_path / "run"
    arguments = (*ARGUMENTS, *places, "--output", str(output), "--engine", "plain", "--languages", "fr")
    result = run_script(SCRIPT, *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "languages: xquad has no translations into fr" in result.stderr
    assert not output.exists()
    result = run_module("finetune.understanding.predict", str(tmp_path), "--data", "d", "--output", str(output))
    assert result.returncode == 2
    assert (
        result.stderr
        == f"error: {tmp_path}: expected a model, a checkpoint or a run, found no run, checkpoint or model\n"
    )
