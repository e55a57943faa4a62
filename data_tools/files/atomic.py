"""Files that appear whole or not at all; for directories see `data_tools.files.directories`."""

import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

OWN_DESCRIPTOR = re.compile(r"/dev/std(?P<name>out|err)|(?:/dev|/proc/self)/fd/(?P<number>\d+)")


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path that replaces `path` on a clean exit; after an error `path` is as before.

    The temporary file lies beside `path`, is renamed into place, and takes over the permissions of the file it
    replaces. A link stays: its target is replaced. If `path` is no file (a device, a pipe, /dev/stdout), the complete
    content is copied into it. The directory must exist. Raises ValueError for a directory, OSError for what cannot be
    written.
    """
    if is_stream(path):
        with tempfile.TemporaryDirectory(prefix="veco-output-") as directory:
            content = Path(directory) / "content"
            yield content
            with named_errors(path):
                pour(content, path)
        return
    check_replaceable_file(path)
    final = Path(os.path.realpath(path))
    temporary = temporary_path(final)
    try:
        with named_errors(path):
            yield temporary
            if final.exists():
                shutil.copymode(final, temporary)
            sync_file(temporary)
            os.replace(temporary, final)
            sync_directory(final.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_replaceable_file(path: Path | str) -> None:
    """Raise ValueError or OSError, naming `path`, unless a file may be written there; nothing is changed."""
    final = Path(os.path.realpath(path))
    if final.is_dir():
        raise ValueError(f"{path}: is a directory; expected the name of a file")
    if not final.parent.is_dir():
        raise ValueError(f"{path}: there is no directory {final.parent}; make it, or choose another name")
    if final.exists() and not os.access(final, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def try_file(path: Path) -> None:
    """Raise ValueError or OSError, naming `path`, unless a file can be written there; tried with an unnamed file."""
    if is_stream(path):
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return
    check_replaceable_file(path)
    try_directory(Path(os.path.realpath(path)).parent, path)


def try_directory(directory: Path, named: Path) -> None:
    """Raise OSError that names `named` if no file can be made in a directory."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"tried")
    except OSError as error:
        error.filename = str(named)
        raise


def is_stream(path: Path | str) -> bool:
    """Whether `path` is written into rather than replaced: a device, a pipe, or an open file of this process."""
    if OWN_DESCRIPTOR.fullmatch(str(path)):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def pour(content: Path, stream: Path | str) -> None:
    """Copy the bytes of a file into a stream; on /dev/stdout they follow what was printed before."""
    found = OWN_DESCRIPTOR.fullmatch(str(stream))
    target: Path | str | int = stream
    if found:
        # Opened by name, a file that stdout is redirected to would be truncated.
        sys.stdout.flush()
        sys.stderr.flush()
        target = os.dup({"out": 1, "err": 2}.get(found["name"]) or int(found["number"]))
    with open(content, "rb") as source, open(target, "wb") as sink:
        shutil.copyfileobj(source, sink)


def write_texts(directory: Path, texts: Mapping[str, str]) -> None:
    """Write each text to the file of that name, whole or not at all; the directory is made if need be."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with atomic_path(directory / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


@contextmanager
def named_errors(path: Path | str) -> Iterator[None]:
    """Add `path` to an OSError of the system that names no file, such as that of a write to a full disk.

    One that libraries raise with a message alone keeps it: Python would print the file in its place.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = error.filename or str(path)
        raise


def temporary_path(path: Path) -> Path:
    """A hidden name beside `path`, unique to this process, also on a disk shared with other machines."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")


def left_overs_of(path: Path) -> list[Path]:
    """Temporary files and directories for `path`, and old directories moved aside, that killed processes have left."""
    ours = re.compile(rf"\.{re.escape(path.name)}\..+\.\d+\.(tmp|old)")
    return [found for found in path.parent.glob(".*") if ours.fullmatch(found.name)]


def sync_file(path: Path) -> None:
    """Wait until the content of `path` is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Wait until renames inside the directory `path` are on the disk."""
    sync_file(path)


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
