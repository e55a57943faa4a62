"""Commands that this process starts, and that end when it does."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TextIO

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def run_command(
    command: Sequence[str], environment: Mapping[str, str] | None = None, output: TextIO | None = None
) -> int:
    """The exit code of a command that is run to its end, or ended with this process, however that ends (Linux).

    Nobody would otherwise wait for what it makes, and the same command, started again, would find it at work.
    `environment` is by default this process's; `output` takes what the command prints, by default where this process
    prints.
    """
    ends_too = partial(end_with_parent, os.getpid(), ctypes.CDLL(None)) if sys.platform == "linux" else None
    done = subprocess.run(command, check=False, env=environment, stdout=output, stderr=output, preexec_fn=ends_too)
    return done.returncode


def end_with_parent(parent: int, libc: ctypes.CDLL) -> None:
    """Ask the kernel to end this process, just started by process `parent`, when that ends."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before that
        os.kill(os.getpid(), signal.SIGTERM)
