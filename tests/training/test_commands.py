"""Commands end with the process that started them, trainings on several ranks too."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from training.commands import run_command

ROOT = Path(__file__).resolve().parents[2]
PARENT = """
import sys
from training.commands import run_command
from training.launch import launcher_command

run_command(launcher_command(2, sys.argv[1]))
"""
RANK = """
import os, pathlib, time

pathlib.Path(__file__).with_name("rank" + os.environ["RANK"]).touch()
time.sleep(100)
"""
PATIENCE = 60.0


def test_exit_code_environment_and_output(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['WORD']); print('told', file=sys.stderr); sys.exit(3)"
    with (tmp_path / "log").open("w") as log:
        assert run_command([sys.executable, "-c", code], {"WORD": "given"}, log) == 3
    assert sorted((tmp_path / "log").read_text().split()) == ["given", "told"]


def processes_of(script: Path) -> list[psutil.Process]:
    """Launchers and ranks of a script, but not the process that started them."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if str(script) in words and "-c" not in words:
            found.append(process)
    return found


def launchers_of(script: Path) -> list[psutil.Process]:
    """Those that start the ranks."""
    return [process for process in processes_of(script) if "deepspeed.launcher.launch" in process.cmdline()]


@pytest.mark.parametrize("moment", ["launching", "running"])
def test_ranks_end_with_the_process_that_started_them(moment: str, tmp_path: Path) -> None:
    """Killed without a word, whether they run already or are about to."""
    script = tmp_path / "script.py"
    script.write_text(RANK)
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", PARENT, str(script)], cwd=ROOT) as parent:
        while not (launchers_of(script) if moment == "launching" else (tmp_path / "rank1").exists()):
            assert parent.poll() is None and time.monotonic() < began + PATIENCE
            time.sleep(0.02)
        parent.kill()
    _, alive = psutil.wait_procs(processes_of(script), timeout=PATIENCE)
    assert not alive and not processes_of(script)
