"""Arrays that are too large for memory, on a disk, until the command ends."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import numpy as np


def unnamed_map(shape: tuple[int, ...], scratch: Path) -> np.ndarray:
    """A float32 array in a file that has no name, so that nothing is left behind however the process ends.

    Raises OSError where the disk has no room for all of it, which would else end the process as it is written.
    """
    size = math.prod(shape) * np.dtype(np.float32).itemsize
    with tempfile.TemporaryFile(dir=scratch) as file:
        if size:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                reason = f"{error.strerror} ({size / 1e9:,.1f} GB needed)"
                raise OSError(error.errno, reason, str(scratch)) from None
        return np.memmap(file, dtype=np.float32, mode="w+", shape=shape)
