"""The lines to translate, in blocks: a fixed number from a file, or those available on standard input."""

from __future__ import annotations

import io
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data_tools.files.outputs import STANDARD_INPUT
from data_tools.text.lines import MAX_LINE_BYTES, TextLines, open_prose, open_text

BLOCK_LINES = 10_000  # sorted by length together: many compared with a batch, few compared with memory
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Block:
    """Consecutive lines, the first of which has the number `first`."""

    first: int
    sources: list[str]
    references: list[str] | None


def read_blocks(source: str, reference: str | None, held: Sequence[str] | None = None) -> Iterator[Block]:
    """The lines of a file, or of standard input for "-", with their references, which may have been read into `held`.

    Raises ValueError when one side ends before the other.
    """
    with ExitStack() as stack:
        references: Iterator[str] | None = None
        if held is not None:
            references = iter(held)
        elif reference is not None:
            references = stack.enter_context(open_lines(reference))
        first = 0
        for lines in source_blocks(source):
            theirs = None if references is None else list(itertools.islice(references, len(lines)))
            if theirs is not None and len(theirs) < len(lines):
                raise ValueError(f"{name_of(str(reference))} has {first + len(theirs):,} lines, {name_of(source)} more")
            yield Block(first, lines, theirs)
            first += len(lines)
        if references is not None and next(references, None) is not None:
            raise ValueError(f"{name_of(source)} has {first:,} lines, {name_of(str(reference))} more")


def source_blocks(source: str) -> Iterator[list[str]]:
    """The lines of a file, BLOCK_LINES at a time; of standard input, those that are available."""
    if source == STANDARD_INPUT:
        yield from ready_lines(sys.stdin.buffer)
        return
    with open_prose(source) as lines:
        while block := list(itertools.islice(lines, BLOCK_LINES)):
            yield block


def open_lines(source: str) -> TextLines:
    """The lines of a file, or of standard input for "-"."""
    return TextLines(name_of(source), sys.stdin.buffer) if source == STANDARD_INPUT else open_text(source)


def held_references(source: str, reference: str | None, num_lines: int | None) -> list[str] | None:
    """All lines of a reference that is a pipe, for a source that is a file; None for others, which are read as needed.

    Reading them at once finds a reference of another length before any work. Raises ValueError for it.
    """
    if reference is None or num_lines is None or not is_pipe(reference):
        return None
    with open_lines(reference) as lines:
        held = list(lines)
    check_equal(source, num_lines, reference, len(held))
    return held


def ready_lines(stream: BinaryIO) -> Iterator[list[str]]:
    """The lines of a UTF-8 stream as they arrive, all available ones at a time; with the same checks as a file.

    A line that is typed, or sent by a program that waits for the answer, is not delayed until others arrive, while a
    file that is piped in still comes in large blocks. Raises ValueError for anything but plain text in UTF-8.
    """
    ready = ReadyBytes(stream)
    lines = TextLines(name_of(STANDARD_INPUT), ready, is_prose=True)
    for line in lines:
        yield [line, *itertools.islice(lines, ready.num_lines - 1)]


class ReadyBytes(io.BufferedIOBase, BinaryIO):
    """A stream read by complete lines: `read` waits for one, and returns all that are available."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._rest = b""
        self.num_lines = 0  # returned by the last `read`

    def read(self, size: int | None = -1) -> bytes:
        content = self._rest
        while len(content) < MAX_LINE_BYTES and (chunk := self._stream.read1(READ_BYTES)):  # type: ignore[attr-defined]
            content += chunk
            if b"\n" in chunk:
                break
        end = content.rfind(b"\n") + 1 or len(content)
        self._rest = content[end:]
        self.num_lines = content.count(b"\n") or 1
        return content[:end]

    def readline(self, size: int | None = -1) -> bytes:
        """The rest of a line of which `read` returned only a part, because it is too long or ends the stream."""
        return self._stream.readline(-1 if size is None else size)


def name_of(source: str) -> str:
    """The name of a source in messages."""
    return "standard input" if source == STANDARD_INPUT else source


def is_pipe(source: str) -> bool:
    """Whether a source can be read only once: standard input, a named pipe, a shell's `<(command)`, a terminal."""
    path = Path(source)
    return source == STANDARD_INPUT or path.is_fifo() or path.is_char_device()


def count_lines(source: str, reference: str | None) -> int | None:
    """Number of lines to translate; None for standard input or a pipe, which can be read only once.

    Raises ValueError if there are none, if a file of references has another number, or if both are the same pipe.
    """
    if is_pipe(source):
        if reference is not None and is_pipe(reference) and is_same_pipe(source, reference):
            raise ValueError(f"{name_of(source)} cannot be both the lines to translate and their --reference")
        return None
    with open_prose(source) as lines:
        num_lines = sum(1 for _ in lines)
    if not num_lines:
        raise ValueError(f"{source} has no line: nothing to translate")
    if reference is not None and not is_pipe(reference):
        with open_text(reference) as lines:
            check_equal(source, num_lines, reference, sum(1 for _ in lines))
    return num_lines


def count_lines_of_file(source: str) -> int:
    """Number of lines of a command's --input. Raises ValueError for a pipe, and where there are none."""
    num_lines = count_lines(source, None)
    if num_lines is None:
        raise ValueError(f"--input {source}: expected a regular file, whose lines are counted first")
    return num_lines


def is_same_pipe(one: str, other: str) -> bool:
    """Whether two sources are the same pipe."""
    return one == other or os.path.samestat(status_of(one), status_of(other))


def status_of(source: str) -> os.stat_result:
    """The status of a file, or of standard input for "-"."""
    return os.fstat(sys.stdin.fileno()) if source == STANDARD_INPUT else os.stat(source)


def check_equal(source: str, num_lines: int, reference: str, num_references: int) -> None:
    """Raise ValueError unless the number of references is that of the lines."""
    if num_references != num_lines:
        raise ValueError(
            f"{name_of(source)} has {num_lines:,} lines but {name_of(reference)} has {num_references:,}: "
            "line i of one must translate line i of the other"
        )
