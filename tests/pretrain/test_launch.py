"""How a program that ran on several ranks ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import atexit, sys, types
from pretrain.launch import run_on_ranks

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


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    ended = run("raise KeyError('x')", has_deepspeed=True)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
