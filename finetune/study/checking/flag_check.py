"""Check command lines by the parsers of their commands, without running them.

A command of ours reads its flags in a function `parse_arguments()`, which also refuses values that do not go together
and looks at no file that another command makes. It is called, in a process of its own: importing a command takes
seconds. A command without such a function in its source is not imported, as a script would run: it is only looked for.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import importlib.abc
import importlib.util
import inspect
import io
import json
import subprocess
import symtable
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from data_tools.cli import one_line

PARSE = "parse_arguments"


class Parsed(NamedTuple):
    """What a parser refuses of a command line, empty for nothing, and the values that it reads from it, by name."""

    problem: str = ""
    values: Mapping[str, Any] = MappingProxyType({})


def parsed_lines(module: str, lines: Sequence[Sequence[str]]) -> list[Parsed]:
    """What the parser of `python -m MODULE` makes of command lines."""
    if not (program := program_of(module)):
        return [Parsed(f"there is no command python -m {module}")] * len(lines)
    parse = parser_of(program)
    return [Parsed() if parse is None else parsed_line(module, parse, words) for words in lines]


def parser_of(program: str) -> Callable[[], object] | None:
    """The `parse_arguments` of a module; None where it has none, or it needs an argument."""
    if not names_parser(program):
        return None
    parse: Any = vars(importlib.import_module(program)).get(PARSE)
    try:
        inspect.signature(parse).bind()
    except (TypeError, ValueError):  # it needs some, or is no function
        return None
    return parse


def names_parser(program: str) -> bool:
    """Whether the source of a module defines, assigns or imports `parse_arguments` at its top level."""
    found = importlib.util.find_spec(program)
    loader = None if found is None else found.loader
    source = loader.get_source(program) if isinstance(loader, importlib.abc.InspectLoader) else None
    if source is None:
        return False
    table = symtable.symtable(source, program, "exec")
    if PARSE not in table.get_identifiers():
        return False
    name = table.lookup(PARSE)
    return name.is_assigned() or name.is_imported()


def program_of(module: str) -> str:
    """The module that `python -m MODULE` runs; empty where there is none."""
    try:
        found = importlib.util.find_spec(module)
        is_package = found is not None and found.submodule_search_locations is not None
        program = f"{module}.__main__" if is_package else module
        return program if importlib.util.find_spec(program) else ""
    except ModuleNotFoundError:  # a package above it is not there
        return ""


def parsed_line(module: str, parse: Callable[[], object], words: Sequence[str]) -> Parsed:
    """What `parse`, which reads sys.argv, makes of a command line."""
    before, sys.argv = sys.argv, [module, *words]
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            options = parse()
    except (ValueError, OSError) as error:
        return Parsed(one_line(error).removesuffix("; --help lists all flags"))
    except SystemExit:  # argparse's own parser
        return Parsed(told.getvalue().strip().rpartition("\n")[2] or "its parser ends the command")
    finally:
        sys.argv = before
    return Parsed(values=values_of(options))


def values_of(options: object) -> dict[str, Any]:
    """The values of flags, or of a recipe; of anything else none."""
    if dataclasses.is_dataclass(options) and not isinstance(options, type):
        return dataclasses.asdict(options)
    return dict(vars(options)) if isinstance(options, argparse.Namespace) else {}


def checked(module: str, lines: Sequence[Sequence[str]]) -> list[Parsed]:
    """`parsed_lines` in a process of its own; values that JSON does not have are text."""
    command = [sys.executable, "-c", f"from {__name__} import main; main()", module]
    result = subprocess.run(command, input=json.dumps(lines), capture_output=True, text=True, check=False)
    if result.returncode or not result.stdout:
        last = result.stderr.strip().rpartition("\n")[2] if result.returncode else ""
        reason = last or "it ends the process; put what it does under if __name__ == '__main__'"
        return [Parsed(f"python -m {module} cannot be imported: {reason}")] * len(lines)
    return [Parsed(**parsed) for parsed in json.loads(result.stdout)]


def main() -> None:
    """The process of `checked`: the command is sys.argv[1], its lines are on standard input; the answer is JSON."""
    with contextlib.redirect_stdout(io.StringIO()):  # what imports print is no part of the answer
        found = parsed_lines(sys.argv[1], json.load(sys.stdin))
    print(json.dumps([{**one._asdict(), "values": dict(one.values)} for one in found], default=str))
