"""A file system that fails at the n-th change to it, or a program that is killed there: try every n until none fails.

The operating system's own calls are counted, so nothing depends on which function of ours makes them: opening a file
for writing, making, renaming and removing files and directories, links, and syncing.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CALLS = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "symlink", "fsync")


class Killed(BaseException):
    """Ends a program where it stands, as a kill does: nothing in the code catches it."""


class FailingFiles:
    """The calls so far, and the one that fails."""

    def __init__(self, fails_at: int, is_kill: bool) -> None:
        self.fails_at, self.is_kill = fails_at, is_kill
        self.calls: list[str] = []

    @property
    def has_failed(self) -> bool:
        return len(self.calls) >= self.fails_at

    def count(self, name: str) -> None:
        """Count a call; a full disk refuses the n-th alone, after a kill nothing is done any more."""
        if self.is_kill and self.has_failed:
            raise Killed
        self.calls.append(name)
        if len(self.calls) == self.fails_at:
            if self.is_kill:
                raise Killed
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self.count(name)
            return call(*arguments, **options)

        return wrapped

    def opened(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if set(mode) & set("wax+"):
                self.count("open")
            return call(file, mode, *arguments, **options)

        return wrapped


@contextmanager
def failing_files(fails_at: int, *, is_kill: bool) -> Iterator[FailingFiles]:
    """Let the call number `fails_at`, from 1, to the file system fail inside; with `is_kill` it is the last one."""
    files = FailingFiles(fails_at, is_kill)
    before = {name: getattr(os, name) for name in CALLS}
    opens = builtins.open
    for name, call in before.items():
        setattr(os, name, files.counted(name, call))
    builtins.open = io.open = files.opened(opens)  # pathlib uses the one, all others the other
    try:
        yield files
    finally:
        builtins.open = io.open = opens
        for name, call in before.items():
            setattr(os, name, call)
