"""Objectives on several ranks over gloo, against one plain process; contrasts of sentences resumed to the bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from launching import launch, overriding, run_script
from safetensors.torch import load_file

from pretrain.momentum import FILE
from training.checkpoints.finding import checkpoints_of
from veco.objectives.objective_sum import ObjectiveSum

TOLERANCE = 1e-5  # relative, float32; sums are taken in another order
STEPS = 4
# With a projection, which monolingual updates have no gradient of: there, too, Adam goes on with its moments.
IN_GROUPS = "mlm + contrast + clsa + xlco(layer=1, queue=20, momentum=0.5, project=true)"
ACROSS_RANKS = "mlm + contrast(across_ranks=true)"
# All that need no lexicon, momentum encoder or teacher.
EVERY = (
    "ca_mlm + tlm + clwa + cross_mask_mlm + btmlm + clwr + clpc + mbart(translate=true) + contrast + 0.1 * clsa "
    "+ hictl + self_alignment(layer=1)"
)
ARGUMENTS = (
    *("--num_hidden_layers", "2", "--hidden_size", "32", "--num_attention_heads", "2", "--intermediate_size", "48"),
    *("--max_position_embeddings", "66", "--mono_max_length", "24", "--bilingual_max_length", "18"),
    *("--mono_batch_pairs", "24", "--bilingual_batch_pairs", "24", "--contrast_pairs", "6"),
    *("--dropout", "0", "--attention_dropout", "0", "--warmup_steps", "0", "--learning_rate", "5e-3"),
    *("--steps", str(STEPS), "--log_every", "1", "--save_every", "2", "--ds_config", "zero3_fp32.json"),
    *("--keep_checkpoints", "9", "--loader_workers", "0", "--cpu_processes", "1"),
)

pytestmark = pytest.mark.slow


def losses(run_dir: Path) -> list[dict[str, float]]:
    """Every loss term and the gradient norm of each update."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if name.startswith(("mono/", "bilingual/", "grad_norm"))}
        for line in lines
    ]


def momentum_of(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoints_of(run_dir)[STEPS] / FILE)


def zero(directory: Path, stage: int, precision: str = "") -> tuple[str, str]:
    path = directory / f"zero{stage}{precision}.json"
    halves = {precision: {"enabled": True}} if precision else {}
    path.write_text(json.dumps({**halves, "zero_optimization": {"stage": stage}}))
    return "--ds_config", str(path)


def plain(data: Path, run_dir: Path, objective: str) -> Path:
    arguments = ("--data", str(data), "--output", str(run_dir), "--objective", objective, "--engine", "plain")
    result = run_script("pretrain/train.py", *arguments, *ARGUMENTS)
    assert result.returncode == 0, result.stderr[-3000:]
    return run_dir


def on_ranks(data: Path, run_dir: Path, ranks: int, objective: str, *more: str) -> Path:
    arguments = ("--data", str(data), "--output", str(run_dir), "--objective", objective)
    result = launch("pretrain/train.py", *arguments, *overriding(*ARGUMENTS, *more), processes=ranks)
    assert result.returncode == 0, result.stderr[-3000:]
    return run_dir


def assert_same_curve(run_dir: Path, reference: Path) -> None:
    ours, theirs = losses(run_dir), losses(reference)
    assert len(ours) == len(theirs) == STEPS
    for step, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        for name, value in other.items():
            assert one[name] == pytest.approx(value, rel=TOLERANCE if name != "grad_norm" else 1e-4), (step, name)


@pytest.fixture(scope="module")
def plain_run(random_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain(random_data, tmp_path_factory.mktemp("plain") / "run", IN_GROUPS)


@pytest.mark.parametrize(("ranks", "accumulation", "stage"), [(2, 1, 1), (2, 2, 2), (4, 1, 0)])
def test_losses_and_queue_are_those_of_one_process(
    ranks: int, accumulation: int, stage: int, plain_run: Path, random_data: Path, tmp_path: Path
) -> None:
    more = (*zero(tmp_path, stage), "--accumulation_steps", str(accumulation))
    run_dir = on_ranks(random_data, tmp_path / "run", ranks, IN_GROUPS, *more)
    assert {"bilingual/contrast", "bilingual/clsa", "bilingual/xlco"} <= losses(run_dir)[1].keys()
    assert_same_curve(run_dir, plain_run)
    torch.testing.assert_close(momentum_of(run_dir), momentum_of(plain_run), rtol=1e-3, atol=1e-4)


def test_losses_of_all_objectives_are_those_of_one_process(random_data: Path, tmp_path: Path) -> None:
    """Under ZeRO-3, which cuts the weights that some of them read from each other's passes."""
    reference = plain(random_data, tmp_path / "plain", EVERY)
    run_dir = on_ranks(random_data, tmp_path / "run", 2, EVERY, "--accumulation_steps", "2")
    seen = {name.split("/")[1] for line in losses(run_dir) for name in line if "/" in name}
    assert {term.name for term in ObjectiveSum.of(EVERY).terms} <= seen
    assert_same_curve(run_dir, reference)


def test_pairs_of_all_ranks_are_contrasted(random_data: Path, tmp_path: Path) -> None:
    """As in one process whose micro-batch has them all; gradients find their way back to the other ranks."""
    reference = plain(random_data, tmp_path / "plain", ACROSS_RANKS)
    run_dir = on_ranks(random_data, tmp_path / "run", 2, ACROSS_RANKS, *zero(tmp_path, 1))
    assert_same_curve(run_dir, reference)


@pytest.mark.parametrize(("stage", "precision"), [(1, ""), (2, "bf16")])
def test_resumed_run_is_the_undisturbed_one_bit_for_bit(
    stage: int, precision: str, random_data: Path, tmp_path: Path
) -> None:
    more = (*zero(tmp_path, stage, precision), "--dropout", "0.1")
    whole = on_ranks(random_data, tmp_path / "whole", 2, IN_GROUPS, *more)
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(checkpoints_of(tmp_path / "run")[STEPS])
    run_dir = on_ranks(random_data, tmp_path / "run", 2, IN_GROUPS, "--resume", *more)
    assert losses(run_dir) == losses(whole)
    ours, theirs = momentum_of(run_dir), momentum_of(whole)
    assert all(torch.equal(tensor, theirs[name]) and tensor.dtype != torch.bfloat16 for name, tensor in ours.items())


def test_queue_goes_on_with_another_number_of_ranks(plain_run: Path, random_data: Path, tmp_path: Path) -> None:
    shutil.copytree(plain_run, tmp_path / "run")
    shutil.rmtree(checkpoints_of(tmp_path / "run")[STEPS])
    run_dir = on_ranks(random_data, tmp_path / "run", 2, IN_GROUPS, "--resume", *zero(tmp_path, 2))
    assert_same_curve(run_dir, plain_run)
