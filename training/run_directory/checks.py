"""Whether a run may write to a directory: not where it would replace what it reads, or what no run has made."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterable
from pathlib import Path

from data_tools.files.outputs import check_filled_directory


def check_run_directory(run_dir: Path, inputs: Iterable[Path], tokenizer: Path | None = None) -> None:
    """Raise ValueError if a run must not write to `run_dir`; every rank looks, before the first collective.

    It must be none of the directories in `inputs`. A metrics.jsonl in it must be a run's, whose lines name their step,
    and a tokenizer in it a copy of `tokenizer`, if the run copies one.
    """
    for source in inputs:
        check_filled_directory(run_dir, source)
    path = run_dir / "metrics.jsonl"
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines[:-1], start=1):  # a kill may have cut the last one
            if not has_step(line):
                raise ValueError(f"{path}: line {number} is not one of a run's metrics; choose another --output")
    for source in tokenizer.iterdir() if tokenizer is not None else ():
        copy = run_dir / "tokenizer" / source.name
        if copy.exists() and not filecmp.cmp(source, copy, shallow=False):
            raise ValueError(f"{copy}: is not the one of the data ({source}); choose another --output")


def has_step(line: str) -> bool:
    """Whether a line is a JSON mapping that names a step."""
    try:
        values = json.loads(line)
    except json.JSONDecodeError:
        return False
    return isinstance(values, dict) and "step" in values
