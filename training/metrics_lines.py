"""The lines of metrics.jsonl, and how those of a run that went back replace the earlier ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from data_tools.files.atomic import atomic_path

METRICS_FILE = "metrics.jsonl"
PARAMETERS, TRAINED_PARAMETERS = (
    "parameters",
    "trained_parameters",
)  # in the first line, and where they change
HELD_FILE = "metrics.new.jsonl"  # lines of a run that went back, until its first checkpoint


def whole_lines(path: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Each line of metrics.jsonl and its values; a line that is cut short, as the last of a killed run, is skipped."""
    for text in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            yield text, json.loads(text)


def lines_until(path: Path, step: int) -> list[str]:
    """The lines of updates up to `step`; none where there is no file."""
    return [text for text, values in whole_lines(path) if values["step"] <= step] if path.is_file() else []


def drop_lines_after(path: Path, step: int) -> None:
    """Remove the lines of updates after `step`, which a resumed run will write again."""
    if path.is_file():
        _replace(path, lines_until(path, step))


def settle_lines(run_dir: Path, start: int) -> None:
    """Put the lines of a run that went back to `start` in place of those after it; a second call changes nothing."""
    held = run_dir / HELD_FILE
    if held.is_file():
        path = run_dir / METRICS_FILE
        _replace(path, [*lines_until(path, start), *(text for text, _ in whole_lines(held))])
        held.unlink()


def _replace(path: Path, lines: list[str]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
