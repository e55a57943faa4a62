"""Finding and opening files: local paths, and URLs of any protocol that fsspec supports (s3://, hf://, https://).

Chained URLs such as `zip://inner.txt::s3://bucket/archive.zip` are URLs too. Local files are opened directly; fsspec
and the library of a protocol are imported only for URLs.
"""

import errno
import glob
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import urlsplit

from data_tools.files.atomic import sha256_of

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

READ_BYTES = 1 << 20
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")
LOCAL_URL = re.compile(r"(file|local)://")
GLOB_CHARACTERS = re.compile(r"[*?\[]")
# Files up to this size are identified by their content, so that a copied or touched file is the same input; larger ones
# by size and modification time, because reading a corpus twice is too slow.
MAX_HASHED_BYTES = 1 << 20
# What identifies a version of a remote file, by the names that the file systems of fsspec use.
VERSION_KEYS = ("ETag", "etag", "xet_hash", "blob_id", "sha", "md5Hash", "Content-MD5", "CRC", "Last-Modified")
ABSENT = (404, 410)  # HTTP status: not found, gone
TIME_KEYS = ("LastModified", "last_modified", "mtime", "updated", "created")


def is_url(path: str) -> bool:
    """Whether a path is a URL for fsspec, not a path of the local file system."""
    return URL.match(path) is not None


def file_name(path: str) -> str:
    """The name of a file, which has its suffix; for a chained URL, of its first link."""
    first = path.split("::")[0] if is_url(path) else path
    if first.startswith(("http://", "https://")):
        first = urlsplit(first).path  # without `?download=true`
    return PurePosixPath(first).name


def expand(pattern: str, base: Path) -> list[str]:
    """The files that match a name or glob, sorted: absolute local paths, or URLs; empty if there are none.

    Relative names start at `base`, `**` stands for any number of directories. A name that exists is taken literally,
    even with brackets, and may be a directory; a glob matches only files, except those that macOS' Finder adds. Raises
    ValueError for a URL whose protocol is unknown, lacks its library or cannot be reached, and for a name that is not
    UTF-8.
    """
    pattern = LOCAL_URL.sub("", pattern)
    if is_url(pattern):
        return _expand_url(pattern, base)
    if (base / pattern).exists():
        found = [pattern]
    else:
        matches = sorted(glob.glob(pattern, root_dir=base, recursive=True))
        found = [match for match in matches if not (is_of_finder(match) or (base / match).is_dir())]
    paths = [str((base / match).absolute()) for match in found]
    for path in paths:
        check_is_utf8_name(path)
    return paths


def is_of_finder(path: str) -> bool:
    """Whether a file holds metadata of macOS' Finder about another file: `__MACOSX/…`, `._NAME`."""
    *folders, name = PurePosixPath(path).parts or ("",)
    return name.startswith("._") or "__MACOSX" in folders


def check_can_be_read_again(path: str) -> None:
    """Raise ValueError for a local path that cannot be read twice: a pipe, a device, a directory.

    /dev/stdin may be a file here, but not in the process that will read it.
    """
    if is_url(path):
        return
    if os.path.isdir(path):
        raise ValueError(f"{path}: a directory; name its files, for example {Path(path).name}/*")
    if path.startswith(("/dev/", "/proc/")) or (os.path.exists(path) and not os.path.isfile(path)):
        raise ValueError(f"{path}: a pipe or device; name a file, since text is read twice")


def check_is_utf8_name(path: str) -> None:
    """Raise ValueError for a path that is not UTF-8, which cannot be written to a manifest, log or message."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{os.fsencode(path)!r}: the name is not valid UTF-8; rename the file") from None


def real_file(path: str) -> str | tuple[int, int]:
    """An identifier shared by all names of one file, including symbolic and hard links; for a URL the URL itself."""
    if is_url(path) or not os.path.exists(path):
        return path
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _expand_url(url: str, base: Path) -> list[str]:
    links = url.split("::")
    if len(links) > 1 and not is_url(links[-1]):  # an archive on this machine
        links[-1] = str((base / LOCAL_URL.sub("", links[-1])).absolute())
    url = "::".join(links)
    rest = "".join(f"::{link}" for link in links[1:])
    try:
        with remote_errors(url):
            file_system, inner = _file_system(url)
            refusal = None
            try:
                file_system.info(inner)  # `exists` would hide why it fails
                return [url]
            except FileNotFoundError as error:
                refusal = None if _is_absent(error) else error
            matches = file_system.glob(inner) if GLOB_CHARACTERS.search(inner) else []
            if refusal and not matches:
                raise refusal
            files = sorted(match for match in matches if not (is_of_finder(match) or file_system.isdir(match)))
            return [f"{file_system.unstrip_protocol(file)}{rest}" for file in files]
    except FileNotFoundError:  # the archive of a chained URL
        return []


def open_binary(path: str) -> io.BufferedReader:
    """Open a file to read its bytes; raises OSError or ValueError if it cannot be opened."""
    if not is_url(path):
        if os.path.isdir(path):
            raise ValueError(f"{path}: expected a file, found a directory")
        return open(path, "rb")
    with remote_errors(path):
        file_system, inner = _file_system(path)
        file = _RemoteFile(path, file_system, file_system.open(inner, "rb"))
    return io.BufferedReader(file, READ_BYTES)


def size_of_file(path: str) -> int:
    """The size of a file in bytes as stored, 0 if the server does not report it; raises OSError if there is no file."""
    if not is_url(path):
        return os.stat(path).st_size
    with remote_errors(path):
        file_system, inner = _file_system(path)
        return int(file_system.info(inner).get("size") or 0)


def can_seek(path: str) -> bool:
    """Whether a file can be read from any position: not in archives, nor from servers that do not support ranges."""
    if not is_url(path):
        return True
    if "::" in path:
        return False
    with remote_errors(path):
        file_system, inner = _file_system(path)
        with file_system.open(inner, "rb") as file:
            try:
                file.seek(1)
            except (ValueError, OSError):
                return False
        return True


def identity_of_file(path: str) -> list[str | int]:
    """Values that identify the content of a file: name, size, and a hash, a version or the modification time."""
    if not is_url(path):
        status = os.stat(path)
        small = status.st_size <= MAX_HASHED_BYTES
        return [os.path.basename(path), status.st_size, sha256_of(path) if small else status.st_mtime_ns]
    with remote_errors(path):
        file_system, inner = _file_system(path)
        info = file_system.info(inner)
    versions = [f"{key}={info[key]}" for key in VERSION_KEYS if info.get(key)]
    versions = versions or [f"{key}={info[key]}" for key in TIME_KEYS if info.get(key)]
    return [path, int(info.get("size") or 0), *versions]


@contextmanager
def remote_errors(path: str) -> Iterator[None]:
    """Turn the exceptions of the libraries of remote file systems into one line that names the file.

    Each library has exceptions of its own, and none of them is a bug of ours. A missing file stays a FileNotFoundError.
    """
    try:
        yield
    except FileNotFoundError as error:
        if _is_absent(error):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None
        raise ValueError(f"{path}: cannot be read ({_reason(error.__cause__ or error)})") from None
    except ImportError as error:
        raise ValueError(f"{path}: this kind of URL needs another library: {error}") from None
    except Exception as error:
        raise ValueError(f"{path}: cannot be read ({_reason(error)})") from None


def _is_absent(error: FileNotFoundError) -> bool:
    """Whether a file does not exist; fsspec's HTTP raises the same error, with a cause, for other failures too."""
    if error.__cause__ is None:
        return True
    from aiohttp import ClientResponseError

    return isinstance(error.__cause__, ClientResponseError) and error.__cause__.status in ABSENT


def _reason(error: BaseException) -> str:
    """The reason that an exception of a remote library gives."""
    from aiohttp import ClientResponseError

    if isinstance(error, ClientResponseError):
        return f"the server answers {error.status} {error.message}"
    return f"{type(error).__name__}: {error}"


def _file_system(url: str) -> "tuple[AbstractFileSystem, str]":
    """The file system of a URL, and the path inside it."""
    import fsspec  # needed for URLs only

    file_system, inner = fsspec.core.url_to_fs(url)
    return file_system, inner


class _RemoteFile(io.RawIOBase):
    """A file of fsspec whose read errors name it."""

    def __init__(self, path: str, file_system: "AbstractFileSystem", file: IO[bytes]) -> None:
        self._path = path
        self._file_system = file_system  # kept alive: an archive is closed together with its file system
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast(bytearray, buffer)).cast("B")
        with remote_errors(self._path):
            content = self._file.read(len(view))
        view[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        with remote_errors(self._path):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
