"""Arrays that are too large for memory, on a disk, until the command ends."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np


def unnamed_map(shape: tuple[int, ...], scratch: Path) -> np.ndarray:
    """A float32 array in a file that has no name, so that nothing is left behind however the process ends."""
    with tempfile.TemporaryFile(dir=scratch) as file:
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
