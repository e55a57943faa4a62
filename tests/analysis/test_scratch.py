"""Arrays on a disk: nothing is left behind, and a disk that is too small is told before anything is written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from analysis.scratch import unnamed_map


def test_an_array_leaves_nothing_behind(tmp_path: Path) -> None:
    array = unnamed_map((3, 4), tmp_path)
    array[:] = 1
    assert array.sum() == 12 and not list(tmp_path.iterdir())


def test_a_disk_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device \(4.0 GB needed\)") as told:
        unnamed_map((1000, 1_000_000), tmp_path)
    assert told.value.filename == str(tmp_path)
