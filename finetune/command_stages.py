"""Stages that are commands a user could type, each skipped when its result exists already."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TextIO

from training.commands import run_command
from training.launch import EXIT_STOPPED, launcher_command

LOG_END = 1 << 16  # bytes


@dataclass(frozen=True)
class Stage:
    """A command, the file or directory it writes, and whether the deepspeed launcher starts it."""

    title: str
    command: tuple[str, ...]
    result: Path
    is_distributed: bool = False


def command_line(stage: Stage, processes: int) -> str:
    """A command as a user would type it; `processes` are those of one with the launcher."""
    if stage.is_distributed:
        return shlex.join(["deepspeed", "--num_accelerators", str(processes), *stage.command])
    return shlex.join(["python", "-m", *stage.command])


def run_stage(
    stage: Stage, processes: int, environment: Mapping[str, str] = MappingProxyType({}), log: TextIO | None = None
) -> None:
    """Run one command, unless its result exists. Raises ValueError when it fails.

    `environment` is added to this process's; the command's output goes to the open file `log`, if one is given.
    """
    if stage.result.exists():
        print(f"\n=== {stage.title}: done before ({stage.result})", file=log, flush=True)
        return
    package = Path(__file__).resolve().parent.parent
    if stage.is_distributed:
        script, *arguments = stage.command
        arguments += ["--cpu_processes", str(processes)]
        merged = {**os.environ, **environment}
        command = launcher_command(processes, str(package / script), *arguments, environment=merged)
    else:
        command = [sys.executable, "-m", *stage.command]
    shown = command_line(stage, processes)
    print(f"\n=== {stage.title}\n$ {shown}", file=log, flush=True)
    start = time.perf_counter()
    environment = {"TOKENIZERS_PARALLELISM": "false", **os.environ, **environment}
    if shutil.which("nvidia-smi") is None:
        environment.setdefault("DS_ACCELERATOR", "cpu")  # the launcher would guess the same, with a warning
    begin = 0 if log is None else log.seek(0, os.SEEK_END)
    code = run_command(command, environment, log)
    if code == EXIT_STOPPED:
        raise ValueError(f"{stage.title}: ended early without {stage.result}; start again to continue")
    if code:
        told = "" if log is None else last_error(Path(log.name), begin)
        raise ValueError(f"{stage.title}: exit code {code} of {shown}{told and f': {told}'}")
    if not stage.result.exists():
        raise ValueError(f"{stage.title}: ended without {stage.result}")
    print(f"({time.perf_counter() - start:.0f} s)", file=log, flush=True)


def last_error(log: Path, begin: int) -> str:
    """The last line `error: …` of a log from byte `begin` on, without that word; empty if none is near its end."""
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - LOG_END))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), "")
