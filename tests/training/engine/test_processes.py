"""The share of a machine's cores that each process of a run takes."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil
import pytest
import torch

from training.engine.plain_engine import PlainEngine
from training.engine.processes import share_cores, warn_of_other_programs
from training.recipe.base import TrainingRecipe


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    for name in ("OMP_NUM_THREADS", "LOCAL_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("variable", "expected"), [({}, 8), ({"LOCAL_SIZE": "2"}, 4), ({"LOCAL_WORLD_SIZE": "16"}, 1)])
def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch, variable: dict[str, str], expected: int) -> None:
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    share_cores()
    assert torch.get_num_threads() == expected


def test_what_the_environment_says_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs side by side, each told to take a core, must not take all of them."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)  # as torch does at its start
    share_cores()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(("busy", "told"), [(98.0, True), (12.0, False)])
def test_other_programs_on_the_cores_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], busy: float, told: bool
) -> None:
    """Of these cores, 0 to 7; the others are as busy as can be, or idle."""
    others = 0.0 if told else 100.0
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: [busy] * 8 + [others] * 56)
    PlainEngine(torch.nn.Linear(2, 2), TrainingRecipe(output="run", engine="plain", device="cpu"), lambda step: 1.0, {})
    assert ("98 % of the cores busy" in capsys.readouterr().err) is told


def test_who_has_chosen_the_number_of_threads_is_told_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: [100.0] * 64)
    torch.set_num_threads(2)
    warn_of_other_programs()
    assert capsys.readouterr().err == ""
