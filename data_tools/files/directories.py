"""Directories that appear whole or not at all, and the record of which command made them.

A command removes or replaces only what it wrote itself. So in each directory that it may write to again it leaves a
record, RECORD_NAME, with a line for each file or subdirectory: the command, a tab, the name, a tab, and the SHA-256 of
the content, or nothing if later calls of the command may change it. Whatever is not in the record belongs to somebody
else. Lines are only appended, so that commands can write to one directory at the same time.
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
    """A fresh directory that is renamed to `path` on a clean exit and removed on an error. A link at `path` stays.

    With `made_by`, the name of a command, a record of all files is written into the directory. With `overwrite` it then
    replaces a directory that the same command made, if that holds nothing else and nothing in it has changed. Raises
    ValueError at the start for any other directory that is not empty, for a file, and for a mount point. Parent
    directories are made.
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
    """Replace `final`, which must be empty or made by `made_by` entirely, by `new`; ValueError if it no longer is."""
    shutil.copymode(final, new)
    # A rename can only replace an empty directory, so the old one is moved aside first and deleted last.
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
    """The reason not to replace `path` by a directory; empty if nothing is there, or `made_by` made all of it."""
    if os.path.ismount(path):  # a rename cannot replace it
        return "is a mount point; choose a directory in it"
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return ""
    if made_by is None or not path.is_dir():
        return "exists already; choose another output or remove it"
    reason = foreign_content(path, made_by)
    return reason and f"{reason}; only what it wrote itself is replaced: choose another output, or remove this one"


def foreign_content(directory: Path, command: str) -> str:
    """Describe, as the predicate of a sentence, what `command` did not write to a directory, or has changed since.

    Empty if there is no such thing. Only files count, also those in subdirectories.
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
    """Record that `command` may write these files or subdirectories of a directory, now and in later calls.

    The directory is made if need be, and may hold other files. Raises ValueError if something of such a name is there
    that `command` has not claimed before, OSError if the directory cannot be written to.
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


def remove_claimed(directory: Path, command: str) -> None:
    """Remove the files that `command` has claimed and may change: those of a call whose results are to be replaced."""
    for name, checksum in read_record(directory, command).items():
        if not checksum and (directory / name).is_file():
            (directory / name).unlink()


def write_record(directory: Path, command: str) -> None:
    """Record all files of a directory, with their checksums, as written by `command`."""
    (directory / RECORD_NAME).unlink(missing_ok=True)  # copied along with other files
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    lines = (f"{command}\t{name}\t{sha256_of(directory / name)}\n" for name in names)
    (directory / RECORD_NAME).write_text("".join(lines), encoding="utf-8")


def read_record(directory: Path, command: str) -> dict[str, str]:
    """Name -> checksum of what `command` wrote to a directory; empty without a record."""
    path = directory / RECORD_NAME
    if not path.is_file():
        return {}
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8", errors="replace").splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == command}


def shortened(names: Iterable[str]) -> str:
    """The first few names, for a message."""
    found = list(names)
    return ", ".join(found[:NUM_SHOWN]) + (f" and {len(found) - NUM_SHOWN:,} more" if found[NUM_SHOWN:] else "")
