"""How a program that ran on several ranks ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from launching import devices_of

from training.launch import launcher_command, relaunch_on_cpu

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import atexit, sys, types
from training.launch import run_on_ranks

class Held:
    def __del__(self):
        print("taken down")

held = Held()
if {has_deepspeed}:
    sys.modules["deepspeed"] = types.ModuleType("deepspeed")
atexit.register(print, "handlers")

def main():
    sys.stdout.write("result ")
    {body}

run_on_ranks(main)
"""


def run(body: str, has_deepspeed: bool) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(body=body, has_deepspeed=has_deepspeed)
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ("pass", 0, ""),
        ("raise ValueError('steps 0')", 2, "error: steps 0\n"),
        ("raise FloatingPointError('loss is nan')", 2, "error: loss is nan\n"),
        ("sys.exit(3)", 3, ""),
    ],
)
def test_with_deepspeed_nothing_is_taken_down_but_all_is_told(body: str, code: int, told: str) -> None:
    ended = run(body, has_deepspeed=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "result handlers\n", told)


def test_without_it_python_ends_as_always() -> None:
    ended = run("pass", has_deepspeed=False)
    assert (ended.returncode, ended.stdout) == (0, "result handlers\ntaken down\n")


def test_interrupt_is_no_traceback_on_any_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, told in (("0", "interrupted\n"), ("1", "")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        ended = run("raise KeyboardInterrupt", has_deepspeed=True)
        assert (ended.returncode, ended.stderr) == (130, told)


def test_interrupt_reaches_what_a_shell_started_in_the_background() -> None:
    """A shell without job control has it ignore SIGINT."""
    body = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(5); print('still there')"
    program = PROGRAM.format(body=body, has_deepspeed=True)
    shell = ["sh", "-c", '"$0" -c "$1" & wait $!', sys.executable, program]
    ended = subprocess.run(shell, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_command_stays_on_the_cpu_where_devices_are_hidden(hidden: str) -> None:
    """DeepSpeed's launcher would take -1 for a device, and forget that none is visible."""
    command = launcher_command(2, "train.py", environment={"CUDA_VISIBLE_DEVICES": hidden})
    assert command[:4] == ["env", "-u", "CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR=cpu"]
    assert devices_of(command) == [0, 1]
    for visible in ({}, {"CUDA_VISIBLE_DEVICES": "3,1,2"}):
        assert launcher_command(2, "train.py", environment=visible)[0] == sys.executable
    assert devices_of(launcher_command(2, "train.py", environment={"CUDA_VISIBLE_DEVICES": "3,1,2"})) == [3, 1]


def test_on_the_cpu_no_device_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The launcher sets numbers there, which stand for cores."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    for accelerator, seen in (("cpu", ""), ("cuda", "0")):
        monkeypatch.setenv("DS_ACCELERATOR", accelerator)
        ended = run("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])", has_deepspeed=True)
        assert ended.stdout == f"result {seen}\nhandlers\n"


def test_several_processes_are_started_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the launcher on a CPU, which counts one device whatever the machine."""
    for name, value in (("CROSS_SIZE", "1"), ("WORLD_SIZE", "1"), ("CUDA_VISIBLE_DEVICES", "0")):
        monkeypatch.setenv(name, value)
    started: list[list[str]] = []
    monkeypatch.setattr("os.execvp", lambda program, command: started.append(command))
    relaunch_on_cpu(2)
    (command,) = started
    assert devices_of(command) == [0, 1]
    assert command[:3] == ["env", "-u", "CUDA_VISIBLE_DEVICES"]


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    ended = run("raise KeyError('x')", has_deepspeed=True)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
