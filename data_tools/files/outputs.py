"""Checks of a command's outputs, before hours of work: that they can be written, and are not among its inputs."""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from data_tools.files.atomic import is_stream, try_file

STANDARD_INPUT = "-"


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path | str | None]) -> None:
    """Raise ValueError or OSError for outputs that cannot be written, are also inputs, or are given twice.

    `outputs` are by flag; None is a flag that was not given. Files are compared as files, whatever their paths or
    links. `-` among the inputs is standard input, a directory stands for all files in it; inputs that are not on this
    machine are ignored.
    """
    read = [Path("/dev/stdin" if source == STANDARD_INPUT else source) for source in inputs if source is not None]
    seen: dict[str, tuple[str, Path]] = {}
    for flag, path in outputs.items():
        if path is None:
            continue
        try_file(path)
        if source := next((source for source in read if is_same_file(path, source)), None):
            raise ValueError(f"{flag} {path}: is the input {source}, which would be lost; choose another {flag}")
        if source := next((source for source in read if is_file_in(path, source)), None):
            raise ValueError(f"{flag} {path}: is a file of the input {source}; choose another {flag}")
        place = os.path.realpath(path)
        other, its_path = seen.setdefault(place, (flag, path))
        if other != flag and not is_stream(path):
            raise ValueError(f"{flag} {path} and {other} {its_path} are one file; choose another {flag}")


def check_output_directory(output: Path, inputs: Iterable[Path | str]) -> None:
    """Raise ValueError if an output directory is an input or contains one."""
    place = Path(os.path.realpath(output))
    for source in inputs:
        if os.path.exists(source) and Path(os.path.realpath(source)).is_relative_to(place):
            raise ValueError(f"--output {output}: the input {source} is in it; choose another --output")


def check_filled_directory(output: Path, source: Path | str) -> None:
    """Raise ValueError if the directory that a command adds files to is the one it reads."""
    if os.path.realpath(output) == os.path.realpath(source):
        raise ValueError(f"--output {output}: is the directory that is read ({source}); choose another --output")


def is_same_file(path: Path, other: Path) -> bool:
    """Whether both paths are the same regular file; `path` need not exist."""
    try:
        # As a writer resolves it: `missing/../text` is `text`, though it cannot be opened.
        first, second = os.stat(os.path.realpath(path)), os.stat(other)
    except OSError:
        return False
    return stat.S_ISREG(first.st_mode) and os.path.samestat(first, second)


def is_file_in(path: Path, directory: Path) -> bool:
    """Whether `path` is a file in a directory or below it."""
    place = Path(os.path.realpath(path))
    return place.is_file() and directory.is_dir() and place.is_relative_to(os.path.realpath(directory))
