"""What this package's commands share: their flags, one clear line on bad input, a directory that appears whole.

This package stands below `data_tools.cli`, of whose `FlagParser` it has a copy; a test sees that they are one.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from safetensors import SafetensorError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what shells report


class FlagParser(argparse.ArgumentParser):
    """A command line whose mistakes are ValueErrors in one line; argparse prints its whole usage, and on every rank.

    Flags are written in full, with `-` or `_` between their words. For one that is unknown the nearest known one is
    named. One that keeps what follows it must not come twice: the first would be lost.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's; unknown flags come first, since one that is misspelt is also missing where it is required."""
        words = sys.argv[1:] if args is None else list(args)
        known = self._spellings(with_commands=True)
        flags = [word.partition("=")[0] for word in takewhile("--".__ne__, words) if word.startswith("--")]
        if unknown := [flag for flag in flags if flag.replace("_", "-") not in known]:
            flag = unknown[0].replace("_", "-")
            close = [name for name in known if name.startswith(flag)] or get_close_matches(flag, known, n=1)
            self.error(f"unknown flag {unknown[0]}" + (f", did you mean {known[close[0]]}?" if close else ""))
        parsed = super().parse_args(words, namespace)
        for name, value in vars(parsed).items():  # a shell leaves --output=~/x as it is
            if isinstance(value, Path) and value.parts[:1] == ("~",):
                setattr(parsed, name, value.expanduser())
        return parsed

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        words = sys.argv[1:] if args is None else list(args)
        known, kept = self._spellings(), set()
        for i, word in enumerate(takewhile("--".__ne__, list(words))):
            flag, equals, value = word.partition("=")
            if (option := known.get(flag.replace("_", "-"))) is None:
                continue
            words[i] = f"{option}{equals}{value}"
            action = self._option_string_actions[option]
            if action in kept:
                self.error(
                    f"{option} is given twice; give it once" + " with all its values" * (action.nargs in ("+", "*"))
                )
            if isinstance(action, argparse._StoreAction):
                kept.add(action)
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; --help lists all flags")

    def _spellings(self, with_commands: bool = False) -> dict[str, str]:
        """The flags as they were added, by their spelling with `-` alone; with those of its commands if wanted."""
        found = {option.replace("_", "-"): option for option in self._option_string_actions}
        for action in self._actions if with_commands else ():
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    found |= parser._spellings(with_commands)
        return found


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
