"""Run the project's commands as a user does, in a clean environment."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from training.launch import free_port

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


def run(command: list[str], variables: Mapping[str, object] | None = None) -> subprocess.CompletedProcess[str]:
    """A finished command, with `variables` added to an environment without traces of a launcher."""
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHER_VARIABLES}
    environment |= {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(ROOT)}
    environment |= {name: str(value) for name, value in (variables or {}).items()}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)


def start_ranks(
    ranks: int, script: str, *arguments: str, variables: Sequence[Mapping[str, object]] | None = None
) -> list[subprocess.CompletedProcess[str]]:
    """Results of `ranks` processes of a script, started with only the environment that all launchers set.

    `variables` are further ones for each rank.
    """
    own = variables or [{}] * ranks
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": ranks, "LOCAL_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, str(ROOT / script), *arguments]
    with ThreadPoolExecutor(ranks) as pool:
        started = [
            pool.submit(run, command, {**shared, "RANK": rank, "LOCAL_RANK": rank, **own[rank]})
            for rank in range(ranks)
        ]
        return [process.result() for process in started]


def overriding(*words: str) -> tuple[str, ...]:
    """A command's words, in which a repeated flag replaces the first one; the commands refuse such flags."""
    found: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            found.pop(word, None)
            found[word] = [word]
        else:
            found[next(reversed(found))].append(word)
    return tuple(word for part in found.values() for word in part)


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python script arguments`: one process, no launcher."""
    return run([sys.executable, str(ROOT / script), *arguments])


def run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments`."""
    return run([sys.executable, "-m", module, *arguments])


def launch(script: str, *arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """`deepspeed --num_accelerators processes script arguments`, on a port of its own."""
    return run(deepspeed_command(processes, str(ROOT / script), *arguments))


def deepspeed_command(processes: int, *script_and_arguments: str) -> list[str]:
    """What `deepspeed --num_accelerators processes …` runs, quietly and on a port of its own."""
    port = str(free_port())
    launcher = ("deepspeed.launcher.runner", "--num_accelerators", str(processes), "--master_port", port)
    return [sys.executable, "-m", *launcher, "--log_level", "warning", *script_and_arguments]


def devices_of(command: Sequence[str]) -> list[int]:
    """The devices, one for each process, in a command of `launcher_command`."""
    found = json.loads(base64.urlsafe_b64decode(command[command.index("--world_info") + 1]))
    devices: list[int] = found["localhost"]
    return devices
