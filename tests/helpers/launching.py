"""Running the project's commands as a user does, with clean surroundings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pretrain.launch import launcher_command

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_SIZE",
    "CROSS_SIZE",
    "CROSS_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    environment |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python script arguments`: one process, no launcher."""
    return run([sys.executable, str(ROOT / script), *arguments])


def run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments`."""
    return run([sys.executable, "-m", module, *arguments])


def launch(script: str, *arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """`deepspeed --num_accelerators processes script arguments`, on a port of its own."""
    return run(launcher_command(processes, str(ROOT / script), *arguments))
