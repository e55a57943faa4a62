"""What two runs that do the same have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.meters import read_metrics

TIMED = ("seconds", "tokens_per_second", "data_wait", "memory_gib", "tflops")


def curve(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics, without what depends on the time."""
    return [{k: v for k, v in line.items() if not k.startswith(TIMED)} for line in read_metrics(run_dir)]
