"""Reading compressed files, by the suffix of their names."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from data_tools.files.formats import check_is_compressed, compressed_suffix

READ_BYTES = 1 << 20  # decompressed bytes per read
COMPRESSED_READ_BYTES = 1 << 16  # compressed bytes per read: text may become many times as long
# The window of `zstd --ultra --long=31`, 2^31 bytes; zstandard's own limit is 2^27. That much memory is used only if
# the header of the file asks for it.
MAX_ZSTD_WINDOW = 1 << 31
# Words in zstandard's errors about frames that are not damaged -> what to say.
ZSTD_LIMITS = {
    "Dictionary": "made with a dictionary of its own; compress it again without one",
    "memory": "needs more memory than there is; compress it again without --long",
}


def decompressed(name: str, raw: IO[bytes]) -> IO[bytes]:
    """The decompressed stream of the file `name` with the bytes `raw`; read it within `damage_named`.

    An empty file has no content, whatever its suffix. Raises ValueError if the first bytes contradict the suffix.
    """
    suffix = compressed_suffix(name)
    if not suffix:
        return raw
    assert isinstance(raw, io.BufferedReader), f"{name}: {raw} does not come from open_binary"
    head = raw.peek(1)
    if not head:
        return raw
    check_is_compressed(name, suffix, head)
    if suffix == ".gz":
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw, mode="rb"))
    if suffix == ".xz":
        return lzma.LZMAFile(raw)
    if suffix == ".bz2":
        return bz2.BZ2File(raw)
    return cast(IO[bytes], io.BufferedReader(_ZstdStream(name, raw), READ_BYTES))


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn the errors of decompressors into a ValueError that names the file; add its name to errors of the disk."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(name, error) from None
    except OSError as error:
        if error.errno is None:  # gzip's and bz2's
            raise _damaged(name, error) from None
        error.filename = error.filename or name
        raise


def _damaged(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name}: damaged or cut short ({error}); fetch or compress it again")


class _ZstdStream(io.RawIOBase):
    """The decompressed bytes of a .zst stream of any number of frames.

    zstandard's own stream reader ends without an error where a file was cut short; this one raises EOFError, as
    gzip does.
    """

    def __init__(self, name: str, raw: IO[bytes]) -> None:
        import zstandard  # needed for .zst only

        self._name = name
        self._raw = raw
        self._library = zstandard
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW)
        self._frame = self._decompressor.decompressobj()
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
                for sign, reason in ZSTD_LIMITS.items():
                    if sign in str(error):
                        raise ValueError(f"{self._name}: {reason}") from None
                raise EOFError(str(error)) from None
            self._frame_is_open = not self._frame.eof
            compressed = b"" if self._frame_is_open else self._frame.unused_data
            if not self._frame_is_open:
                self._frame = self._decompressor.decompressobj()
        return b"".join(pieces)
