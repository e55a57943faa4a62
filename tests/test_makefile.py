"""`make setup` prints what it installs, its size and duration; a stand-in for Python installs nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# `-m venv DIR` makes DIR/bin/python; `-m pip` does what that file says.
STAND_IN = """#!/bin/sh
mkdir -p "$3/bin"
printf '#!/bin/sh\\necho "$@" >> "%s/calls"\\nexit {pip_exit_code}\\n' "$3" > "$3/bin/python"
chmod +x "$3/bin/python"
"""


def set_up(directory: Path, pip_exit_code: int, *variables: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("no make")
    python = directory / "python"
    python.write_text(STAND_IN.format(pip_exit_code=pip_exit_code))
    python.chmod(0o755)
    command = ["make", "--no-print-directory", "setup", f"PYTHON={python}", f"VENV={directory / 'venv'}", *variables]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_setup_prints_content_size_duration_and_next_step(tmp_path: Path) -> None:
    result = set_up(tmp_path, 0)
    assert result.returncode == 0, result.stderr
    told = result.stdout
    for pattern in (r"PyTorch, DeepSpeed", r"[\d.]+ GB to download, [\d.]+ GB on disk", r"About \d+ minutes"):
        assert re.search(pattern, told.partition("[1/3]")[0]), f"{pattern}: {told}"
    assert re.findall(r"^\[(\d)/3\] .+ \(.+\)$", told, re.MULTILINE) == ["1", "2", "3"]
    assert re.search(r"^Ready after \d+ s\.$", told, re.MULTILINE)
    assert re.search(r"make demo .* about \d+ minutes", told.partition("Ready")[2])
    again = set_up(tmp_path, 1)
    assert again.returncode == 0 and "Setting up" not in again.stdout


def test_failed_setup_is_not_marked_as_done(tmp_path: Path) -> None:
    result = set_up(tmp_path, 1)
    assert result.returncode != 0
    assert "Ready" not in result.stdout and not (tmp_path / "venv" / ".ready").exists()


def test_torch_comes_from_the_index_that_is_given(tmp_path: Path) -> None:
    """As a V100 needs it."""
    index = "https://download.pytorch.org/whl/cu126"
    assert set_up(tmp_path, 0, f"TORCH_INDEX={index}").returncode == 0
    (torch, others) = (tmp_path / "venv" / "calls").read_text().splitlines()
    assert re.fullmatch(rf"-m pip install --quiet torch==[\d.]+ --index-url {re.escape(index)}", torch)
    assert "index" not in others
