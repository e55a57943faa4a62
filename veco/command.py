"""What this package's commands share: one clear line on bad input, and a directory that appears whole."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what shells report


def run_command(main: Callable[[], None]) -> None:
    """Nothing; runs `main`; where it raises ValueError or OSError: one line `error: …` on stderr and exit code 2.

    Other exceptions are mistakes of ours and keep their traceback. (`data_tools.cli` does the same; this package
    stands below that one.) A terminal that lacks a character is sent its number, which is no reason to fail.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        main()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(EXIT_INTERRUPTED)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(EXIT_BAD_INPUT)


def read_text(path: Path) -> str:
    """The text of a file; ValueError naming it where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start:,} ({error.reason}); convert the file") from None


@contextmanager
def told_by_the_system(path: Path) -> Iterator[None]:
    """Make an OSError naming `path` of what libraries in Rust raise where they cannot write, as on a full disk."""
    try:
        yield
    except Exception as error:
        # `tokenizers` raises a bare Exception; what is derived from it has a meaning of its own.
        if isinstance(error, SafetensorError) or type(error) is Exception:
            raise OSError(f"{path}: {error}") from error
        raise


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A fresh directory beside `path`: renamed to `path` on a clean exit, removed on an error. A link to it stays.

    Raises ValueError at the start if `path` exists and is not an empty directory, or is a mount point. Parent
    directories are made.
    """
    final = Path(os.path.realpath(path))
    if os.path.ismount(final):  # a rename cannot replace it
        raise ValueError(f"{path}: is a mount point; choose a directory in it")
    if final.exists() and not (final.is_dir() and not any(final.iterdir())):
        raise ValueError(f"{path}: exists already; choose another output or remove it")
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary)
        raise
