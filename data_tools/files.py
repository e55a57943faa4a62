"""Files that appear whole or not at all, and text files read strictly."""

import gzip
import hashlib
import io
import lzma
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

READ_BYTES = 1 << 20  # decoded at once: large enough to be fast, small enough to stay in cache
COMPRESSED_SUFFIXES = (".gz", ".xz", ".zst")


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path`; on clean exit it is synced and takes the name `path`, on an error it is removed.

    Within `with atomic_path(p) as temporary:` write one whole file to `temporary`. The directory must exist.
    """
    final = Path(path)
    temporary = temporary_path(final)
    try:
        yield temporary
        sync_file(temporary)
        os.replace(temporary, final)
        sync_directory(final.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_directory(path: Path | str, overwrite: bool = False) -> Iterator[Path]:
    """A fresh directory beside `path`; on clean exit it is renamed to `path`, on an error it is removed.

    Raises ValueError if `path` exists and is not an empty directory, unless `overwrite`: then the old one is replaced.
    Parent directories are made.
    """
    final = Path(path)
    if final.exists() and not (final.is_dir() and not any(final.iterdir())) and not overwrite:
        raise ValueError(f"{final}: exists already; choose another output or remove it")
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(final.absolute())
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                sync_file(file)
        if final.exists():
            # A rename replaces an empty directory only, so the old content moves aside first and is deleted last.
            old = final.absolute().with_name(f".{final.name}.{os.getpid()}.old")
            os.replace(final, old)
            os.replace(temporary, final)
            shutil.rmtree(old)
        else:
            os.replace(temporary, final)
        sync_directory(final.absolute().parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def temporary_path(path: Path) -> Path:
    """A hidden name beside `path`, of this process alone."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def sync_file(path: Path) -> None:
    """Nothing; what was written to `path` is on the disk afterwards."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Nothing; renames inside the directory `path` survive a power cut afterwards."""
    sync_file(path)


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class TextLines(Iterator[str]):
    """The lines of a text file (plain, .gz, .xz, .zst) without their line ends; also a context manager.

    Strict UTF-8; a byte order mark at the start is dropped. Lines end with LF or CR LF, and with nothing else: Python's
    `splitlines` would also split at U+2028 and friends, and one such character would shift all later lines of a pair.
    `num_bytes_read` counts bytes of the file itself (compressed ones), so that it compares with the file's size.
    Raises ValueError naming the file, and the line for text that is not UTF-8; OSError if it cannot be opened.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise ValueError(f"{self.path}: expected a text file, found a directory")
        self._raw = open(self.path, "rb")  # noqa: SIM115 (closed in close())
        self._lines = self._decoded()

    @property
    def num_bytes_read(self) -> int:
        return 0 if self._raw.closed else self._raw.tell()

    def close(self) -> None:
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        return next(self._lines)

    def _decoded(self) -> Iterator[str]:
        num_lines = 0
        stream = _decompressed(self._raw, self.path.suffix)
        while True:
            block = self._read_block(stream)
            if not block:
                return
            try:
                text = block.decode("utf-8")
            except UnicodeDecodeError as error:
                line = num_lines + block.count(b"\n", 0, error.start) + 1
                raise ValueError(
                    f"{self.path}: line {line} is not UTF-8 (byte 0x{block[error.start]:02x}: {error.reason}); "
                    "convert the file, for example with iconv"
                ) from None
            if num_lines == 0:
                text = text.removeprefix("\ufeff")
            lines = text.split("\n")
            if text.endswith("\n"):
                lines.pop()
            num_lines += len(lines)
            if "\r" in text:
                lines = [line.removesuffix("\r") for line in lines]
            yield from lines

    def _read_block(self, stream: IO[bytes]) -> bytes:
        """About READ_BYTES that end with a line end, or at the end of the file; empty after it."""
        try:
            block = stream.read(READ_BYTES)
            return block if block.endswith(b"\n") else block + stream.readline()
        except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
            raise ValueError(f"{self.path}: damaged or cut short ({error}); fetch or compress it again") from None


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
            compressed = self._raw.read(READ_BYTES)
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


def _decompressed(raw: IO[bytes], suffix: str) -> IO[bytes]:
    """The stream of decompressed bytes of `raw`, by the suffix of its name."""
    if suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw, mode="rb"))
    if suffix == ".xz":
        return lzma.LZMAFile(raw)
    if suffix == ".zst":
        return cast(IO[bytes], io.BufferedReader(_ZstdStream(raw), READ_BYTES))
    return raw


def open_text(path: Path | str) -> TextLines:
    """The lines of a text file without their line ends, as an iterator and context manager: see `TextLines`."""
    return TextLines(path)
