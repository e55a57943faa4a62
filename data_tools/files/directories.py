"""Directories that appear whole or not at all, and whose they are.

A command removes or replaces only what it wrote itself. So it leaves a record in the directories that it may write to
again, RECORD_NAME, with a line for each file or subdirectory: the command, a tab, the name, a tab, and the SHA-256 of
its content or, where the command changes it in later calls, nothing. What no record names is somebody else's. Lines are
only added, so that commands that write to one directory at the same time need not wait for each other.
"""

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data_tools.files.atomic import named_errors, sha256_of, sync_directory, sync_file, temporary_path, try_directory

RECORD_NAME = ".made_by.tsv"
NUM_SHOWN = 3


@contextmanager
def atomic_directory(path: Path | str, made_by: str | None = None, overwrite: bool = False) -> Iterator[Path]:
    """A fresh directory that gets the name `path` on a clean exit, and is removed on an error. A link to it stays.

    With `made_by`, the name of a command, a record of all files goes into the directory. `overwrite` then replaces a
    directory that the same command made, if it holds nothing else and nothing in it was changed. Raises ValueError at
    the start for any other directory that is not empty, for a file, and for a mount point. Parent directories are made.
    """
    final = Path(os.path.realpath(path))
    replacing = made_by if overwrite else None
    if reason := reason_to_keep(final, replacing):
        raise ValueError(f"{path}: {reason}")
    temporary = temporary_path(final)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with named_errors(path):
            final.parent.mkdir(parents=True, exist_ok=True)
            try_directory(final.parent, named=Path(path))
            temporary.mkdir()
            yield temporary
        if made_by is not None:
            write_record(temporary, made_by)
        for file in temporary.rglob("*"):
            if file.is_file():
                sync_file(file)
        if final.exists():
            replace_directory(final, temporary, replacing, named=path)
        else:
            os.replace(temporary, final)
        sync_directory(final.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def replace_directory(final: Path, new: Path, made_by: str | None, named: Path | str) -> None:
    """Put `new` in the place of `final`, which must be empty or all `made_by`'s; ValueError if it no longer is."""
    shutil.copymode(final, new)
    # A rename replaces an empty directory only, so the old content moves aside first and is deleted last.
    old = new.with_suffix(".old")
    os.replace(final, old)
    try:
        if reason := reason_to_keep(old, made_by):
            raise ValueError(f"{named}: {reason}")
        os.replace(new, final)
    except BaseException:
        os.replace(old, final)
        raise
    shutil.rmtree(old)


def reason_to_keep(path: Path, made_by: str | None) -> str:
    """Why `path` must not be replaced by a directory; empty where nothing is there, or all of it is `made_by`'s."""
    if os.path.ismount(path):  # a rename cannot replace it
        return "is a mount point; choose a directory in it"
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return ""
    if made_by is None or not path.is_dir():
        return "exists already; choose another output or remove it"
    reason = foreign_content(path, made_by)
    return reason and f"{reason}; only what it wrote itself is replaced: choose another output, or remove this one"


def foreign_content(directory: Path, command: str) -> str:
    """What a directory holds that `command` did not write, or not so, as the predicate of a sentence; empty if all is.

    Subdirectories are nobody's; their files count.
    """
    recorded = read_record(directory, command)
    if not recorded:
        return f"was not made by {command}"
    paths = {path.relative_to(directory).as_posix(): path for path in sorted(directory.rglob("*"))}
    paths = {name: path for name, path in paths.items() if path.is_symlink() or not path.is_dir()}
    paths.pop(RECORD_NAME, None)
    if others := [name for name in paths if name not in recorded]:
        return f"holds {shortened(others)}, not written by {command}"
    changed = [name for name, path in paths.items() if not path.is_file() or sha256_of(path) != recorded[name]]
    return f"holds {shortened(changed)}, changed since {command} wrote it" if changed else ""


def claim(directory: Path, names: Collection[str], command: str) -> None:
    """Note that files or subdirectories of a directory are `command`'s to write, now and in later calls.

    The directory is made if need be; others may keep their files in it. Raises ValueError if something of such a name
    is there that `command` has not claimed before, OSError if the directory cannot be written to.
    """
    claimed = read_record(directory, command)
    if others := [name for name in names if name not in claimed and os.path.lexists(directory / name)]:
        raise ValueError(
            f"{directory}: holds {shortened(others)}, not written by {command}; only what it wrote itself is replaced: "
            "choose another output"
        )
    directory.mkdir(parents=True, exist_ok=True)
    try_directory(directory, named=directory)
    if new := [name for name in names if name not in claimed]:
        with open(directory / RECORD_NAME, "a", encoding="utf-8") as file:
            file.write("".join(f"{command}\t{name}\t\n" for name in new))


def write_record(directory: Path, command: str) -> None:
    """Record all files of a directory, with their sums, as written by `command`."""
    (directory / RECORD_NAME).unlink(missing_ok=True)  # it came with files that were copied
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    lines = (f"{command}\t{name}\t{sha256_of(directory / name)}\n" for name in names)
    (directory / RECORD_NAME).write_text("".join(lines), encoding="utf-8")


def read_record(directory: Path, command: str) -> dict[str, str]:
    """Name -> sum of what `command` wrote to a directory; empty without a record."""
    path = directory / RECORD_NAME
    if not path.is_file():
        return {}
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == command}


def shortened(names: Iterable[str]) -> str:
    """The first few of some names, for a message."""
    found = list(names)
    return ", ".join(found[:NUM_SHOWN]) + (f" and {len(found) - NUM_SHOWN:,} more" if found[NUM_SHOWN:] else "")
