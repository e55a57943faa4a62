"""Reading the lines of text files strictly: local or remote, plain or compressed."""

import io
from collections.abc import Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from data_tools.files.compression import damage_named, decompressed
from data_tools.files.formats import EXTRACT, check_is_named_as_text, check_is_prose, check_is_text, wide_encoding
from data_tools.files.locations import is_url, open_binary

READ_BYTES = 1 << 20  # decoded at once: large enough to be fast, small enough to stay in cache
MAX_LINE_BYTES = 1 << 26


class TextLines(Iterator[str]):
    """The lines of a text without their line ends; also a context manager, which closes `raw`.

    `raw` are the bytes of the file `name`, whose suffix (.gz, .xz, .zst, .bz2 or another) says how they are compressed.
    With `start` and `end` only bytes [start, end) are read, which must be whole lines of an uncompressed file. Strict
    UTF-8; a byte order mark at the start is dropped. Lines end only with LF or CR LF: Python's `splitlines` would also
    split at U+2028 and the like, and one such character would shift all later lines of a pair. `num_bytes_read` counts
    bytes of the file as stored (compressed), comparable with the file size. Raises ValueError naming the file if it is
    not text or its lines end with CR alone (with `is_prose`, also if it begins with markup or JSON, with
    `advice_for_json` for the latter), and the line for text that is not UTF-8, a NUL byte or a line of MAX_LINE_BYTES.
    """

    def __init__(
        self,
        name: str,
        raw: IO[bytes],
        start: int = 0,
        end: int | None = None,
        is_prose: bool = False,
        advice_for_json: str = EXTRACT,
    ) -> None:
        self.name = name
        self._raw = raw
        self._is_prose = is_prose
        self._advice_for_json = advice_for_json
        self._start = start
        self._end = end
        self._num_bytes_read = 0
        if start:
            raw.seek(start)
        self._lines = chain.from_iterable(self._blocks())

    @property
    def num_bytes_read(self) -> int:
        if not self._raw.closed and self._raw.seekable():  # a pipe has no position
            self._num_bytes_read = self._raw.tell() - self._start
        return self._num_bytes_read

    @property
    def is_empty_file(self) -> bool:
        """Whether the file has 0 bytes; to be asked before reading."""
        return isinstance(self._raw, io.BufferedReader) and not self._raw.peek(1)

    def place(self, number: int) -> str:
        """The place of the `number`-th line read, from 1, for a message: `NAME: line N`.

        N is counted from the beginning of the file. The lines before `start` are counted only here, because errors are
        rare; in a remote file not at all, because that would download it.
        """
        if self._start == 0:
            return f"{self.name}: line {number}"
        if is_url(self.name):
            return f"{self.name}: line {number} after byte {self._start:,}"
        return f"{self.name}: line {number + num_line_ends(self.name, self._start)}"

    def close(self) -> None:
        self._num_bytes_read = self.num_bytes_read
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[str]:
        return self._lines  # not self, which would cost a call per line

    def __next__(self) -> str:
        return next(self._lines)

    def _blocks(self) -> Iterator[list[str]]:
        """The lines, some thousands at a time."""
        num_lines = 0
        stream = decompressed(self.name, self._raw)
        while block := self._read_block(stream, num_lines):
            if num_lines == 0 and self._start == 0:
                check_is_text(self.name, block)
                check_line_ends(self.name, block)
                block = block.removeprefix(b"\xef\xbb\xbf")
                if self._is_prose:
                    check_is_prose(self.name, block, self._advice_for_json)
            if b"\0" in block:
                problem = "holds a NUL byte, which text never has; if the rest is text, remove it: tr -d '\\000'"
                raise self._not_utf8(block, block.index(b"\0"), problem, num_lines)
            try:
                text = block.decode("utf-8")
            except UnicodeDecodeError as error:
                found = f"byte 0x{block[error.start]:02x}: {error.reason}"
                problem = f"is not UTF-8 ({found}); convert the file, for example with iconv"
                raise self._not_utf8(block, error.start, problem, num_lines) from None
            lines = text.split("\n")
            if not lines[-1]:
                lines.pop()
            num_lines += len(lines)
            if "\r" in text:
                lines = [line.removesuffix("\r") for line in lines]
            yield lines

    def _read_block(self, stream: IO[bytes], num_lines: int) -> bytes:
        """About READ_BYTES up to a line end or the end of the file; empty after that."""
        size = READ_BYTES if self._end is None else min(READ_BYTES, self._end - stream.tell())
        with damage_named(self.name):
            block = stream.read(size)
            rest = b"" if block.endswith(b"\n") or not block else stream.readline(MAX_LINE_BYTES)
        if len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
            number = num_lines + block.count(b"\n") + 1
            raise ValueError(f"{self.place(number)} is longer than {MAX_LINE_BYTES >> 20} MiB; expected lines of text")
        return block + rest

    def _not_utf8(self, block: bytes, position: int, problem: str, num_lines: int) -> ValueError:
        """The error for bytes that are not UTF-8, at `position` of the block after `num_lines` lines."""
        encoding = wide_encoding(block)
        if encoding and num_lines == 0:
            return ValueError(
                f"{self.name}: {encoding} without a byte order mark, expected UTF-8; convert it: "
                f"iconv -f {encoding} -t UTF-8"
            )
        number = num_lines + block.count(b"\n", 0, position) + 1
        return ValueError(f"{self.place(number)} {problem}")


def check_line_ends(name: str, block: bytes) -> None:
    """Raise ValueError if the first block of a text ends its lines with CR alone, which would make it one line.

    A single CR may be part of a text of one line.
    """
    if b"\n" not in block and (count := block.count(b"\r")) > 1:
        raise ValueError(
            f"{name}: lines end with CR alone ({count:,} of them and no LF), expected LF or CR LF; convert it: "
            "tr '\\r' '\\n'"
        )


def num_line_ends(path: str, end: int) -> int:
    """The number of line feeds among the first `end` bytes of a local file."""
    count = 0
    with open(path, "rb") as file:
        for offset in range(0, end, READ_BYTES):
            count += file.read(min(READ_BYTES, end - offset)).count(b"\n")
    return count


def read_text(path: Path | str) -> str:
    """Read the whole text of a file, plain or compressed, in strict UTF-8, for formats not read by line, such as JSON.

    Raises OSError or ValueError if it cannot be read.
    """
    name = str(path)
    with open_binary(name) as raw, damage_named(name):
        content = decompressed(name, raw).read()
    check_is_text(name, content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start:,} ({error.reason}); convert the file") from None


def open_text(
    path: Path | str,
    start: int = 0,
    end: int | None = None,
    is_prose: bool = False,
    advice_for_json: str = EXTRACT,
) -> TextLines:
    """Open a text file as an iterator over its lines without line ends, and context manager: see `TextLines`.

    Raises OSError or ValueError if the file cannot be opened.
    """
    return TextLines(str(path), open_binary(str(path)), start, end, is_prose, advice_for_json)


def open_prose(path: Path | str) -> TextLines:
    """Open plain text with one sentence per line, like `open_text`; other formats are refused, by name and content."""
    check_is_named_as_text(str(path))
    return open_text(path, is_prose=True)


def rows_of(texts: Sequence[TextLines]) -> Iterator[tuple[str, ...]]:
    """The i-th lines of several texts, for each i. Raises ValueError that names a text which ends before another."""
    for num_rows, lines in enumerate(zip_longest(*texts)):
        complete = tuple(line for line in lines if line is not None)
        if len(complete) < len(lines):
            ended, longer = (
                next(text.name for text, line in zip(texts, lines, strict=True) if (line is None) is has_ended)
                for has_ended in (True, False)
            )
            raise ValueError(f"{ended} has {num_rows:,} lines, {longer} more; line i of each must belong together")
        yield complete
