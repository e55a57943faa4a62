"""What commands print for `--help`, without a process of their own, each of which would import its libraries anew."""

from __future__ import annotations

import io
import runpy
import sys
from contextlib import redirect_stdout
from functools import cache
from unittest.mock import patch

import pytest


@cache
def help_in_process(command: str, *words: str) -> str:
    """The output of `python -m COMMAND WORDS --help`, or of a script if the command is the path of one."""
    shown = io.StringIO()
    run = runpy.run_path if command.endswith(".py") else runpy.run_module
    # Where DeepSpeed is loaded, a training script would end this process at once.
    stays, called = patch("training.launch.leave", sys.exit), patch.object(sys, "argv", [command, *words, "--help"])
    with stays, called, redirect_stdout(shown), pytest.raises(SystemExit) as ended:
        run(command, run_name="__main__")
    assert not ended.value.code, command
    return shown.getvalue()
