"""Text files as streams of lines, read strictly: local or remote, plain or compressed."""

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePath
from types import TracebackType
from typing import IO, Self, cast

from data_tools.locations import file_name, is_url, open_binary

READ_BYTES = 1 << 20  # decoded at once: large enough to be fast, small enough to stay in cache
COMPRESSED_READ_BYTES = 1 << 16  # decompressed at once: text may become many times as long
MAX_LINE_BYTES = 1 << 26
COMPRESSED_SUFFIXES = (".gz", ".xz", ".zst")
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)  # what the decompressors raise


def compressed_suffix(path: str) -> str:
    """The suffix that says how a file is compressed, empty for a plain one."""
    suffix = PurePath(file_name(path)).suffix
    return suffix if suffix in COMPRESSED_SUFFIXES else ""


class TextLines(Iterator[str]):
    """The lines of a text without their line ends; also a context manager, which closes `raw`.

    `raw` are the bytes of the file `name`, whose suffix (.gz, .xz, .zst or another) says how they are compressed; with
    `start` and `end` only its bytes [start, end) are read, which must begin and end with lines of an uncompressed file.
    Strict UTF-8; a byte order mark at the start is dropped. Lines end with LF or CR LF, and with nothing else: Python's
    `splitlines` would also split at U+2028 and friends, and one such character would shift all later lines of a pair.
    `num_bytes_read` counts bytes of the file itself (compressed ones), so that it compares with the file's size.
    Raises ValueError naming the file, and the line for text that is not UTF-8 or a line of MAX_LINE_BYTES.
    """

    def __init__(self, name: str, raw: IO[bytes], start: int = 0, end: int | None = None) -> None:
        self.name = name
        self._raw = raw
        self._start = start
        self._end = end
        self._num_bytes_read = 0
        if start:
            raw.seek(start)
        self._lines = chain.from_iterable(self._blocks())

    @property
    def num_bytes_read(self) -> int:
        if not self._raw.closed and self._raw.seekable():  # a pipe cannot say
            self._num_bytes_read = self._raw.tell() - self._start
        return self._num_bytes_read

    def place(self, number: int) -> str:
        """Where to find the line that came as number `number`, counted from 1: `NAME: line N`.

        Lines are numbered from the beginning of the file. What comes before `start` is counted only here, because
        errors are rare; in a remote file not even then, because that would fetch it.
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
        return self._lines  # and not self, which would cost a call for each line

    def __next__(self) -> str:
        return next(self._lines)

    def _blocks(self) -> Iterator[list[str]]:
        """The lines, some thousand at once."""
        num_lines = 0
        stream = decompressed(self._raw, compressed_suffix(self.name))
        while block := self._read_block(stream, num_lines):
            if num_lines == 0 and self._start == 0:
                check_not_utf16(self.name, block)
                block = block.removeprefix(b"\xef\xbb\xbf")
            try:
                text = block.decode("utf-8")
            except UnicodeDecodeError as error:
                number = num_lines + block.count(b"\n", 0, error.start) + 1
                raise ValueError(
                    f"{self.place(number)} is not UTF-8 (byte 0x{block[error.start]:02x}: {error.reason}); "
                    "convert the file, for example with iconv"
                ) from None
            lines = text.split("\n")
            if not lines[-1]:
                lines.pop()
            num_lines += len(lines)
            if "\r" in text:
                lines = [line.removesuffix("\r") for line in lines]
            yield lines

    def _read_block(self, stream: IO[bytes], num_lines: int) -> bytes:
        """About READ_BYTES that end with a line end, or at the end of the file; empty after it."""
        size = READ_BYTES if self._end is None else min(READ_BYTES, self._end - stream.tell())
        try:
            block = stream.read(size)
            rest = b"" if block.endswith(b"\n") or not block else stream.readline(MAX_LINE_BYTES)
        except DAMAGED as error:
            raise ValueError(f"{self.name}: damaged or cut short ({error}); fetch or compress it again") from None
        if len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
            number = num_lines + block.count(b"\n") + 1
            raise ValueError(f"{self.place(number)} is longer than {MAX_LINE_BYTES >> 20} MiB; expected lines of text")
        return block + rest


def check_not_utf16(name: str, content: bytes) -> None:
    """Raise ValueError if the content of the file `name` begins with a mark of UTF-16."""
    if content.startswith(UTF16_MARKS):
        raise ValueError(f"{name}: UTF-16, expected UTF-8; convert it: iconv -f UTF-16 -t UTF-8")


def num_line_ends(path: str, end: int) -> int:
    """The line feeds among the first `end` bytes of a local file."""
    count = 0
    with open(path, "rb") as file:
        for offset in range(0, end, READ_BYTES):
            count += file.read(min(READ_BYTES, end - offset)).count(b"\n")
    return count


class _ZstdStream(io.RawIOBase):
    """The decompressed bytes of a .zst stream of any number of frames.

    zstandard's own stream reader ends without an error where a file was cut short; this one raises EOFError, as
    gzip does.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        import zstandard  # only who reads .zst needs it

        self._raw = raw
        self._library = zstandard
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._frame_is_open = False
        self._output = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        while not self._output:
            compressed = self._raw.read(COMPRESSED_READ_BYTES)
            if not compressed:
                if self._frame_is_open:
                    raise EOFError("the last frame is not complete")
                return 0
            self._output = self._decompress(compressed)
        size = min(len(view), len(self._output))
        view[:size] = self._output[:size]
        self._output = self._output[size:]
        return size

    def _decompress(self, compressed: bytes) -> bytes:
        pieces = []
        while compressed:
            try:
                pieces.append(self._frame.decompress(compressed))
            except self._library.ZstdError as error:
                raise EOFError(str(error)) from None
            self._frame_is_open = not self._frame.eof
            compressed = b"" if self._frame_is_open else self._frame.unused_data
            if not self._frame_is_open:
                self._frame = self._library.ZstdDecompressor().decompressobj()
        return b"".join(pieces)


def decompressed(raw: IO[bytes], suffix: str) -> IO[bytes]:
    """The stream of decompressed bytes of `raw`, by the suffix of its name; reading may raise what is in DAMAGED."""
    if suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw, mode="rb"))
    if suffix == ".xz":
        return lzma.LZMAFile(raw)
    if suffix == ".zst":
        return cast(IO[bytes], io.BufferedReader(_ZstdStream(raw), READ_BYTES))
    return raw


def read_text(path: Path | str) -> str:
    """The whole text of a file, plain or compressed, in strict UTF-8, for what is no lines of text, such as JSON.

    Raises OSError or ValueError if it cannot be read.
    """
    try:
        with open_binary(str(path)) as raw:
            content = decompressed(raw, compressed_suffix(str(path))).read()
        check_not_utf16(str(path), content)
        return content.decode("utf-8-sig")
    except DAMAGED as error:
        raise ValueError(f"{path}: damaged or cut short ({error}); fetch or compress it again") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 at byte {error.start:,} ({error.reason}); convert the file") from None


def open_text(path: Path | str, start: int = 0, end: int | None = None) -> TextLines:
    """The lines of a text file without their line ends, as an iterator and context manager: see `TextLines`.

    Raises OSError or ValueError if the file cannot be opened.
    """
    return TextLines(str(path), open_binary(str(path)), start, end)
