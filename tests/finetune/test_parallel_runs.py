"""Shares of the machine, and runs side by side."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest
import torch
from launching import devices_of

from finetune.command_stages import Stage, run_stage
from finetune.parallel_runs import run_side_by_side, shares_of_machine


def test_gpus_are_divided_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert shares_of_machine(2, 2) == [{"CUDA_VISIBLE_DEVICES": "4,5"}, {"CUDA_VISIBLE_DEVICES": "6,7"}]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares_of_machine(3, 1)] == ["4", "5", "6"]
    with pytest.raises(ValueError, match="4 GPUs are visible: too few for 3 runs of 2 at once"):
        shares_of_machine(3, 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert shares_of_machine(2, 1) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]


def test_a_launched_run_gets_its_own_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """DeepSpeed ignores which devices are visible if it is told how many to use."""
    commands = []

    def run(command: list[str], **options: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for share in ({"CUDA_VISIBLE_DEVICES": "6,7"}, {}):
        with pytest.raises(ValueError, match="exit code 1"):
            run_stage(Stage("train", ("train.py",), tmp_path / "result", True), 2, share)
    first, second = commands
    assert (devices_of(first), devices_of(second)) == ([6, 7], [0, 1])


def test_cores_are_divided_between_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert shares_of_machine(1, 2) == [{}]
    assert shares_of_machine(2, 2) == [{"OMP_NUM_THREADS": "2"}] * 2
    assert shares_of_machine(16, 1) == [{"OMP_NUM_THREADS": "1"}] * 16
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert shares_of_machine(2, 1) == [{}, {}]


def test_parallel_runs_have_their_own_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    both, seen = Barrier(2, timeout=20), []

    def work(run: int, share: dict[str, str]) -> None:
        both.wait()  # passes only when two runs are at work at once
        seen.append((run, share["CUDA_VISIBLE_DEVICES"]))
        both.wait()

    run_side_by_side([1, 2, 3, 4], work, parallel=2, ranks=1)
    assert sorted(run for run, _ in seen) == [1, 2, 3, 4]
    assert {device for _, device in seen[:2]} == {"0", "1"} == {device for _, device in seen[2:]}


def test_a_failed_run_does_not_stop_the_others() -> None:
    done = []

    def work(run: int, share: dict[str, str]) -> None:
        if run == 2:
            raise ValueError("run 2: no data")
        done.append(run)

    with pytest.raises(ValueError, match="1 of 3 runs failed: run 2: no data"):
        run_side_by_side([1, 2, 3], work, parallel=1, ranks=1)
    assert done == [1, 3]


def test_of_many_failures_some_are_told_and_all_are_named() -> None:
    def work(run: int, share: dict[str, str]) -> None:
        raise ValueError(f"{run}: no data")

    with pytest.raises(
        ValueError, match=r"^5 of 5 runs failed: 0: no data; 1: no data; 2: no data; also failed: run 3, run 4$"
    ):
        run_side_by_side(range(5), work, parallel=1, ranks=1, name=lambda run: f"run {run}")


def test_what_needs_a_failed_run_is_left_out_and_the_rest_is_done() -> None:
    """3 needs 1 and 2, 4 needs 3; 0 and 5 need nothing."""
    done = []

    def work(run: int, share: dict[str, str]) -> None:
        if run == 1:
            raise ValueError("1: no data")
        done.append(run)

    needs = [(), (), (), (1, 2), (3,), ()]
    with pytest.raises(ValueError, match=r"^1 of 6 runs failed: 1: no data; left out for that: run 3, run 4$"):
        run_side_by_side(range(6), work, parallel=2, ranks=1, needs=needs, name=lambda run: f"run {run}")
    assert sorted(done) == [0, 2, 5]


def test_a_run_begins_after_what_it_needs_and_beside_what_it_does_not() -> None:
    """0 needs 2; 1 and 2 are at work at once."""
    both, order = Barrier(2, timeout=20), []

    def work(run: int, share: dict[str, str]) -> None:
        if run:
            both.wait()
        order.append(run)

    run_side_by_side([0, 1, 2], work, parallel=2, ranks=1, needs=[(2,), (), ()])
    assert order.index(0) > order.index(2)
