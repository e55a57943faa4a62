"""Text to translate as blocks of lines: so many of a file, or what standard input has ready."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data_tools.text_lines import open_prose, open_text

STANDARD_INPUT = "-"
BLOCK_LINES = 10_000  # sorted by length together: many beside a batch, few beside memory
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Block:
    """Neighbouring lines, numbered on from `first`."""

    first: int
    sources: list[str]
    references: list[str] | None


def read_blocks(source: str, reference: Path | None) -> Iterator[Block]:
    """The lines of a file with those of its reference, or of standard input for "-"."""
    if source == STANDARD_INPUT:
        first = 0
        for lines in ready_lines(sys.stdin.buffer):
            yield Block(first, lines, None)
            first += len(lines)
        return
    with open_prose(source) as sources, nullcontext() if reference is None else open_text(reference) as references:
        for first in itertools.count(step=BLOCK_LINES):
            block = list(itertools.islice(sources, BLOCK_LINES))
            if not block:
                return
            yield Block(first, block, None if references is None else list(itertools.islice(references, BLOCK_LINES)))


def ready_lines(stream: BinaryIO) -> Iterator[list[str]]:
    """The lines of a stream of UTF-8 as they come, as many at a time as are there.

    So a line that is typed, or sent by a program that waits for the answer, is not kept waiting for others, and a file
    that is piped in still comes in large blocks. Raises ValueError for what is not UTF-8.
    """
    rest, num_lines = b"", 0
    while chunk := stream.read1(READ_BYTES):  # type: ignore[attr-defined]  # of BufferedReader: what is there
        *whole, rest = (rest + chunk).split(b"\n")
        if whole:
            yield _decoded(whole, num_lines)
            num_lines += len(whole)
    if rest:
        yield _decoded([rest], num_lines)


def _decoded(lines: list[bytes], num_before: int) -> list[str]:
    try:
        return [line.decode("utf-8").removesuffix("\r") for line in lines]
    except UnicodeDecodeError:
        pass
    for number, line in enumerate(lines, start=num_before + 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"standard input: line {number} is not UTF-8 (byte 0x{line[error.start]:02x}: {error.reason})"
            ) from None
    raise AssertionError("one of the lines could not be decoded")


def name_of(source: str) -> str:
    """What messages call a source."""
    return "standard input" if source == STANDARD_INPUT else source


def is_pipe(path: str) -> bool:
    """Whether a path is a named pipe, or what a shell makes of `<(command)`."""
    return Path(path).is_fifo()


def count_lines(source: str, reference: Path | None) -> int | None:
    """Lines to translate, None of standard input or a pipe, whose lines come but once.

    Raises ValueError if there are none, or not as many references.
    """
    if source == STANDARD_INPUT or is_pipe(source):
        if reference is not None:
            raise ValueError("--reference goes with --input FILE, not with standard input or a pipe")
        return None
    with open_prose(source) as lines:
        number = sum(1 for _ in lines)
    if not number:
        raise ValueError(f"{source} has no line: nothing to translate")
    if reference is not None:
        with open_text(reference) as lines:
            num_references = sum(1 for _ in lines)
        if num_references != number:
            raise ValueError(
                f"{source} has {number:,} lines but {reference} has {num_references:,}: "
                "line i of one must translate line i of the other"
            )
    return number
