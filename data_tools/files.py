"""Files and directories that appear whole or not at all."""

import hashlib
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path`; on clean exit it is synced and takes the name `path`, on an error it is removed.

    Within `with atomic_path(p) as temporary:` write one whole file to `temporary`. The directory must exist.
    """
    final = Path(path)
    temporary = temporary_path(final)
    try:
        with named_errors(final):
            yield temporary
            sync_file(temporary)
            os.replace(temporary, final)
            sync_directory(final.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_directory(path: Path | str, overwrite: bool = False) -> Iterator[Path]:
    """A fresh directory beside `path`; on clean exit it is renamed to `path`, on an error it is removed.

    Raises ValueError if `path` exists and is not an empty directory, unless `overwrite`: then the old one is replaced.
    Parent directories are made.
    """
    final = Path(path)
    if final.exists() and not (final.is_dir() and not any(final.iterdir())) and not overwrite:
        raise ValueError(f"{final}: exists already; choose another output or remove it")
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(final.absolute())
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with named_errors(final):
            yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                sync_file(file)
        if final.exists():
            # A rename replaces an empty directory only, so the old content moves aside first and is deleted last.
            old = temporary.with_suffix(".old")
            os.replace(final, old)
            os.replace(temporary, final)
            shutil.rmtree(old)
        else:
            os.replace(temporary, final)
        sync_directory(final.absolute().parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_texts(directory: Path, texts: Mapping[str, str]) -> None:
    """Nothing; writes each text whole under its file's name, in a directory that is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with atomic_path(directory / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


@contextmanager
def named_errors(path: Path | str) -> Iterator[None]:
    """Nothing; an OSError inside that names no file, as when a write finds the disk full, names `path`."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def temporary_path(path: Path) -> Path:
    """A hidden name beside `path`, of this process alone, on a disk that other machines may share."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")


def sync_file(path: Path) -> None:
    """Nothing; what was written to `path` is on the disk afterwards."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Nothing; renames inside the directory `path` survive a power cut afterwards."""
    sync_file(path)


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
