"""Shared by all command lines of this project: the flag parser, one clear line on bad input, and the progress bar.

Set VECO_TRACEBACK=1 in the environment to see where an error was raised.
"""

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EXIT_BAD_INPUT = 2
MAX_NAME = 4096  # characters of a name in an error message, the longest path on Linux
EXIT_INTERRUPTED = 130  # 128 + SIGINT, what shells report
MAX_NAMED = 3  # files, languages, … in one message


class FlagParser(argparse.ArgumentParser):
    """An argparse parser that raises mistakes as one-line ValueErrors; argparse prints its whole usage, on every rank.

    Flags are written in full, with `-` or `_` between their words. For an unknown flag the closest known one is named.
    A flag that stores a value must not be given twice: the first value would be lost.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse as argparse does, but report unknown flags first: a misspelt required flag is also a missing one."""
        words = sys.argv[1:] if args is None else list(args)
        known = self._spellings(with_commands=True)
        flags = [word.partition("=")[0] for word in takewhile("--".__ne__, words) if word.startswith("--")]
        if unknown := [flag for flag in flags if flag.replace("_", "-") not in known]:
            flag = unknown[0].replace("_", "-")
            close = [name for name in known if name.startswith(flag)] or get_close_matches(flag, known, n=1)
            self.error(f"unknown flag {unknown[0]}" + (f", did you mean {known[close[0]]}?" if close else ""))
        parsed = super().parse_args(words, namespace)
        for name, value in vars(parsed).items():  # a shell does not expand --output=~/x
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
        """Map each flag, spelt with `-` only, to the spelling it was added with; optionally of subcommands too."""
        found = {option.replace("_", "-"): option for option in self._option_string_actions}
        for action in self._actions if with_commands else ():
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    found |= parser._spellings(with_commands)
        return found


def positive_int(text: str) -> int:
    """The type of a flag that takes a whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text}")
    return number


def run_main(main: Callable[[], None]) -> None:
    """Run `main`; exit with code 2 and one line `error: …` on stderr if it raises ValueError or OSError.

    Other exceptions are bugs and keep their traceback.
    """
    escape_unencodable_output()
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone (`describe … | head`), which is not an error. Python would complain again
        # when it flushes at exit, so stdout is redirected first.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(EXIT_INTERRUPTED)
    except (ValueError, OSError) as error:
        if os.environ.get("VECO_TRACEBACK"):
            traceback.print_exc()
        sys.stderr.write(f"error: {one_line(error)}\n")
        sys.exit(EXIT_BAD_INPUT)


def escape_unencodable_output() -> None:
    """Make stdout and stderr escape characters that the terminal cannot show (`\\u0436`) instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def write_utf8() -> None:
    """Make stdout write UTF-8 whatever the terminal: the output is data for files and other programs."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def warn(message: str) -> None:
    """Write a line `warning: …` to stderr."""
    sys.stderr.write(f"warning: {message}\n")


def one_line(error: BaseException) -> str:
    """The message of an exception on one line; that of an OSError as `path: reason`."""
    if isinstance(error, OSError) and error.strerror:
        named = [str(name) for name in (error.filename, error.filename2) if name is not None]
        message = ": ".join([*named, error.strerror])
    elif isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        # Python represents bytes of a file name that are not UTF-8 as surrogates.
        message = f"{error.object[:MAX_NAME]!r}: the file name is not valid UTF-8; rename the file"
    else:
        message = str(error) or type(error).__name__
    return "; ".join(line.strip() for line in message.splitlines() if line.strip())


class SeveralErrors(ValueError):
    """Several problems found at once; `problems` has one line for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(problems)
        self.problems = list(problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)


def problems_of(error: BaseException) -> list[str]:
    """The problems that an exception reports, one line each."""
    return error.problems if isinstance(error, SeveralErrors) else [one_line(error)]


def refuse_unread(parser: argparse.ArgumentParser, options: argparse.Namespace, unread: Mapping[str, str]) -> None:
    """Raise ValueError for a flag that was given though nothing reads it: {its name in `options`: what it is of}."""
    for name, what in unread.items():
        if (value := vars(options)[name]) != parser.get_default(name):
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            raise ValueError(f"--{name.replace('_', '-')} {shown}: is of {what}; leave it out, or ask for that")


def first_of(names: Sequence[str], separator: str = ", ") -> str:
    """The first MAX_NAMED names, and how many more there are."""
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return separator.join(names[:MAX_NAMED]) + more


def progress_bar(transient: bool = False) -> Progress:
    """A progress bar on stderr; unless that is a terminal, only the final state is printed, which keeps logs short."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        # rich would also redirect stdout to stderr: the data that a user pipes elsewhere.
        redirect_stdout=False,
        redirect_stderr=False,
        transient=transient,
        refresh_per_second=4,
    )
