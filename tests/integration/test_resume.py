"""Runs that are stopped, killed, or go on with other ranks and ZeRO stages, on a toy model in the shared loop."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from launching import ROOT, deepspeed_command, overriding, run, run_script, start_ranks
from trained_weights import consolidated_weights

from training.checkpoints.finding import checkpoints_of, damage, read_state
from training.launch import EXIT_STOPPED

TOY = "tests/helpers/toy_training.py"
STEPS = 8
TOLERANCE = 1e-5  # relative, float32; sums are taken in another order
ZERO1 = '{"zero_optimization": {"stage": 1}}'
ZERO2 = '{"zero_optimization": {"stage": 2}}'


def arguments_of(run_dir: Path, *more: str) -> tuple[str, ...]:
    return overriding(
        *("--output", str(run_dir), "--steps", str(STEPS), "--save_every", "4", "--keep_checkpoints", "9"),
        *("--learning_rate", "0.05", "--log_every", "1", "--loader_workers", "0", "--ds_config", "zero3_fp32.json"),
        *("--frozen", "true", *more),
    )


def losses(run_dir: Path) -> list[dict[str, float]]:
    kept = ("step", "toy/loss", "grad_norm", "lr", "skipped/toy/square")
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in kept if name in line} for line in lines]


def assert_same_curve(run_dir: Path, reference: Path) -> None:
    ours, theirs = losses(run_dir), losses(reference)
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, rel=TOLERANCE)


def train(run_dir: Path, *more: str, ranks: int = 1) -> None:
    for process in start_ranks(ranks, TOY, *arguments_of(run_dir, *more)):
        assert process.returncode == 0, process.stderr[-3000:]


def halfway(run_dir: Path, copy: Path) -> Path:
    """A copy of a run as if it had been killed after its first checkpoint."""
    shutil.copytree(run_dir, copy)
    shutil.rmtree(checkpoints_of(copy)[STEPS])
    return copy


@pytest.fixture(scope="module")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("plain") / "run"
    # Without bf16 in its ds_config the plain engine computes in float32.
    result = run_script(TOY, *arguments_of(run_dir, "--engine", "plain"))
    assert result.returncode == 0, result.stderr[-3000:]
    return run_dir


@pytest.fixture(scope="module")
def zero3_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On two ranks, with weights that do not divide by two and a frozen layer."""
    run_dir = tmp_path_factory.mktemp("zero3") / "run"
    train(run_dir, ranks=2)
    return run_dir


def test_two_ranks_of_zero3_go_on_as_one_plain_process(zero3_run: Path, plain_run: Path, tmp_path: Path) -> None:
    """The frozen weights can only come from the checkpoint: the toy draws others when it goes on."""
    run_dir = halfway(zero3_run, tmp_path / "run")
    result = run_script(TOY, *arguments_of(run_dir, "--engine", "plain", "--resume"))
    assert result.returncode == 0, result.stderr[-3000:]
    assert "zero_stage 3 -> none, parts 2 -> 1; losses match up to rounding" in result.stderr
    assert_same_curve(run_dir, plain_run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "target", "ranks"),
    [
        ("zero3_fp32.json", "zero3_fp32.json", 1),
        ("zero3_fp32.json", "zero3_fp32.json", 4),
        ("zero3_fp32.json", ZERO1, 2),
        ("zero3_fp32.json", "cpu.json", 2),
        (ZERO1, "zero3_fp32.json", 1),
        (ZERO2, "zero3_fp32.json", 4),
        ("plain", "zero3_fp32.json", 2),
        ("plain", ZERO2, 1),
    ],
)
def test_any_ranks_and_stage_go_on(source: str, target: str, ranks: int, plain_run: Path, tmp_path: Path) -> None:
    def config(name: str, settings: str) -> str:
        if not settings.startswith("{"):
            return settings
        path = tmp_path / f"{name}.json"
        path.write_text(settings)
        return str(path)

    first, run_dir = plain_run, tmp_path / "run"
    if source != "plain":
        first = tmp_path / "first"
        train(first, "--ds_config", config("source", source), ranks=2)
    halfway(first, run_dir)
    train(run_dir, "--ds_config", config("target", target), "--resume", ranks=ranks)
    assert_same_curve(run_dir, plain_run)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["zero3_fp32.json", "zero1_bf16.json", "zero2_bf16.json", "zero3_bf16.json"])
def test_same_layout_goes_on_bit_for_bit(config: str, tmp_path: Path) -> None:
    train(tmp_path / "run", "--ds_config", config, ranks=2)
    run_dir = halfway(tmp_path / "run", tmp_path / "again")
    train(run_dir, "--ds_config", config, "--resume", ranks=2)
    assert losses(run_dir) == losses(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["zero3_fp32.json", "cpu.json", ZERO2])
@pytest.mark.parametrize("reset", ["--reset_optimizer", ""])
def test_changes_act_alike_on_any_engine(settings: str, reset: str, plain_run: Path, tmp_path: Path) -> None:
    """DeepSpeed's optimizers, too, would bring back what they were saved with."""
    path = tmp_path / "ds.json"
    path.write_text(settings)
    config = ("--ds_config", str(path) if settings.startswith("{") else settings)
    changed = {"adam_beta1": "0.5", "weight_decay": "0.3"}
    flags = ("--resume", "--change", ",".join(changed), *([reset] if reset else []))
    flags += tuple(f"--{name}={value}" for name, value in changed.items())
    plain = halfway(plain_run, tmp_path / "plain")
    result = run_script(TOY, *arguments_of(plain, "--engine", "plain", *flags))
    assert result.returncode == 0, result.stderr[-3000:]
    train(tmp_path / "run", *config, ranks=2)
    run_dir = halfway(tmp_path / "run", tmp_path / "again")
    train(run_dir, *config, *flags, ranks=2)
    assert_same_curve(run_dir, plain)
    assert losses(plain)[4:] != losses(plain_run)[4:]


SPIKE = ("--spike_at", "7", "--skip_sigma", "4", "--skip_window", "8", "--accumulation_steps", "2")


@pytest.mark.slow
def test_spike_is_left_out_also_after_a_resume(tmp_path: Path) -> None:
    """What the losses were before belongs to the checkpoint."""
    plain = ("--engine", "plain", *SPIKE)
    whole, run_dir = tmp_path / "whole", tmp_path / "run"
    for output in (whole, run_dir):
        result = run_script(TOY, *arguments_of(output, *plain, "--steps", "8" if output == whole else "4"))
        assert result.returncode == 0, result.stderr[-3000:]
    result = run_script(TOY, *arguments_of(run_dir, *plain, "--resume"))
    assert "skipped" in result.stderr
    assert losses(run_dir) == losses(whole)
    assert [line["step"] for line in losses(whole) if "skipped/toy/square" in line] == [7]


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["zero3_fp32.json", "cpu.json", ZERO2])
def test_spike_is_left_out_under_zero(settings: str, tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text(settings)
    config = str(path) if settings.startswith("{") else settings
    train(tmp_path / "zero", *SPIKE, "--ds_config", config, ranks=2)
    result = run_script(TOY, *arguments_of(tmp_path / "plain", *SPIKE, "--engine", "plain"))
    assert result.returncode == 0, result.stderr[-3000:]
    assert_same_curve(tmp_path / "zero", tmp_path / "plain")


@pytest.mark.slow
@pytest.mark.parametrize("config", ["zero1_bf16.json", "zero2_bf16.json", "zero3_bf16.json"])
def test_update_that_is_left_out_changes_no_weight(config: str, tmp_path: Path) -> None:
    """DeepSpeed's optimizers for bfloat16 are others than those for float32."""
    train(tmp_path / "run", *SPIKE, "--ds_config", config, "--save_every", "1", ranks=2)
    steps = {step: consolidated_weights(path) for step, path in checkpoints_of(tmp_path / "run").items()}
    for name, weight in steps[7].items():
        assert torch.equal(weight, steps[6][name]), name
    assert not torch.equal(steps[8]["2.weight"], steps[7]["2.weight"])


@pytest.mark.slow
def test_loss_that_is_no_number_names_rank_and_batch(tmp_path: Path) -> None:
    results = start_ranks(2, TOY, *arguments_of(tmp_path / "run", "--nan_at", "3"))
    expected = (
        "update 3, toy batch: the loss is not finite (square nan; rank 1: micro-batch 2); the weights were not changed"
    )
    assert [result.returncode for result in results] == [2, 2]
    assert results[0].stderr.splitlines()[-1] == f"error: {expected}"


PRETRAINING = (
    *("--num_hidden_layers", "2", "--hidden_size", "32", "--num_attention_heads", "2", "--intermediate_size", "48"),
    *("--max_position_embeddings", "66", "--mono_max_length", "24", "--bilingual_max_length", "18"),
    *("--mono_batch_pairs", "8", "--bilingual_batch_pairs", "12", "--dropout", "0", "--attention_dropout", "0"),
    *("--warmup_steps", "2", "--learning_rate", "5e-3", "--log_every", "1", "--loader_workers", "0"),
    *("--ds_config", "zero3_fp32.json", "--cpu_processes", "1"),
)


@pytest.mark.slow
def test_pre_training_on_one_two_four_and_one_ranks(random_data: Path, tmp_path: Path) -> None:
    """Each goes on from the one before; samples are the same, losses up to rounding."""
    script, data = "pretrain/train.py", ("--data", str(random_data))
    undisturbed, run_dir = tmp_path / "undisturbed", tmp_path / "run"
    common = (*data, *PRETRAINING, "--steps", "8", "--save_every", "2", "--keep_checkpoints", "9")
    for process in start_ranks(1, script, *common, "--output", str(undisturbed)):
        assert process.returncode == 0, process.stderr[-3000:]
    shutil.copytree(undisturbed, run_dir)
    for ranks, last in ((2, 2), (4, 4), (1, 6)):
        for step, checkpoint in checkpoints_of(run_dir).items():
            if step > last:
                shutil.rmtree(checkpoint)
        for process in start_ranks(ranks, script, *common, "--output", str(run_dir), "--resume"):
            assert process.returncode == 0, process.stderr[-3000:]
    read = ((output / "metrics.jsonl").read_text().splitlines() for output in (run_dir, undisturbed))
    for ours, theirs in zip(*(map(json.loads, lines) for lines in read), strict=True):
        assert ours["samples"] == theirs["samples"]
        for name, value in theirs.items():
            if name.endswith("/loss"):
                assert ours[name] == pytest.approx(value, rel=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["plain", "deepspeed"])
def test_full_disk_keeps_the_checkpoint_before(engine: str, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    arguments = arguments_of(run_dir, "--engine", engine, "--full_disk_at", "8")
    results = start_ranks(1 if engine == "plain" else 2, TOY, *arguments)
    for result in results:
        assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "the checkpoint could not be written" in results[0].stderr
    assert "File too large" in results[-1].stderr
    assert list(checkpoints_of(run_dir)) == [4] and damage(checkpoints_of(run_dir)[4]) is None


def start(command: list[str]) -> subprocess.Popen[str]:
    environment = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_updates(process: subprocess.Popen[str], run_dir: Path, count: int) -> None:
    metrics = run_dir / "metrics.jsonl"
    while not metrics.is_file() or metrics.read_text().count("\n") < count:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_second_start_is_refused_on_every_rank(ranks: int, tmp_path: Path) -> None:
    """Before any rank waits for another: these have no launcher that would end the others."""
    run_dir = tmp_path / "run"
    arguments = arguments_of(run_dir, "--engine", "plain", "--steps", "400", "--pause", "0.2", "--resume")
    process = start([sys.executable, TOY, *arguments])
    try:
        wait_for_updates(process, run_dir, 1)
        engine = ("--engine", "plain" if ranks == 1 else "deepspeed")
        for second in start_ranks(ranks, TOY, *arguments_of(run_dir, "--resume", *engine)):
            assert second.returncode == 2
            assert f"{run_dir} is in use by another run (process {process.pid} on " in second.stderr
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    result = run_script(TOY, *arguments_of(run_dir, "--engine", "plain", "--resume", "--pause", "0.2"))
    assert result.returncode == 0 and f"the previous owner (process {process.pid} on " in result.stderr
    assert not (run_dir / ".owner").exists()


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGTERM, "1"),
        pytest.param(signal.SIGUSR1, "0", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, "1", marks=pytest.mark.slow),
    ],
)
def test_signal_saves_and_ends_well(number: signal.Signals, workers: str, plain_run: Path, tmp_path: Path) -> None:
    """Sent to all its processes, as the launcher does it; the one that reads ahead must live on."""
    plain = ("--engine", "plain", "--save_every", "1000", "--loader_workers", workers)
    command = [sys.executable, TOY, *arguments_of(tmp_path / "run", *plain, "--pause", "0.4")]
    process = start(command)
    wait_for_updates(process, tmp_path / "run", 2)
    psutil.Process(process.pid).send_signal(number)
    for worker in psutil.Process(process.pid).children():
        if "spawn_main" in " ".join(worker.cmdline()):
            worker.send_signal(number)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == EXIT_STOPPED, told
    (step,) = checkpoints_of(tmp_path / "run")
    assert 2 <= step < STEPS
    result = run_script(TOY, *arguments_of(tmp_path / "run", *plain, "--pause", "0.4", "--resume"))
    assert result.returncode == 0, result.stderr[-3000:]
    assert losses(tmp_path / "run") == losses(plain_run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "number"),
    [
        ("launcher", signal.SIGTERM),
        ("launcher", signal.SIGKILL),
        ("deepspeed", signal.SIGTERM),
        ("rank", signal.SIGUSR1),
    ],
)
def test_signal_to_the_launcher_or_a_rank_saves(target: str, number: signal.Signals, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    arguments = arguments_of(run_dir, "--steps", "400", "--save_every", "1000", "--pause", "0.2")
    process = start(deepspeed_command(2, str(ROOT / TOY), *arguments))
    wait_for_updates(process, run_dir, 3)
    launcher = psutil.Process(process.pid).children()[0]
    ranks = launcher.children()
    {"launcher": launcher, "deepspeed": psutil.Process(process.pid), "rank": ranks[-1]}[target].send_signal(number)
    _, alive = psutil.wait_procs([launcher, *ranks], timeout=60)
    assert not alive
    assert list(checkpoints_of(run_dir)) == [read_state(path)["step"] for path in checkpoints_of(run_dir).values()]
    assert len(checkpoints_of(run_dir)) == 1
    process.communicate(timeout=60)
    if target == "rank":
        assert process.returncode == EXIT_STOPPED


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_lost_rank_ends_the_job_with_a_line(lost: int, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = start(deepspeed_command(2, str(ROOT / TOY), *arguments_of(run_dir, "--steps", "400", "--pause", "0.2")))
    wait_for_updates(process, run_dir, 5)
    psutil.Process(process.pid).children()[0].children()[lost].kill()
    told = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert "another rank is gone; --resume auto goes on from the last checkpoint" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_end_of_the_allotted_time_saves(tmp_path: Path) -> None:
    arguments = arguments_of(tmp_path / "run", "--engine", "plain", "--steps", "4000", "--pause", "0.2")
    began = time.monotonic()
    result = run_script(TOY, *overriding(*arguments, "--max_time", "00:00:04", "--save_every", "1000"))
    assert result.returncode == EXIT_STOPPED, result.stderr[-3000:]
    (step,) = checkpoints_of(tmp_path / "run")
    assert 5 < step < 25 and time.monotonic() - began < 60


def test_output_that_cannot_be_written(random_data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    arguments = ("--data", str(random_data), "--engine", "plain", "--output", str(tmp_path / "file" / "run"))
    result = run([sys.executable, str(ROOT / "pretrain" / "train.py"), *arguments])
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ") and str(tmp_path / "file") in last and "is no directory" in last
    assert "Traceback" not in result.stderr
