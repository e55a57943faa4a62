import io
import os
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from data_tools.files import locations
from data_tools.files.locations import (
    can_seek,
    check_can_be_read_again,
    expand,
    identity_of_file,
    is_of_finder,
    is_url,
    open_binary,
    real_file,
    size_of_file,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    for name in ["b.txt", "a.txt", "x[1].txt", "x1.txt", "deep/c.txt", "deep/deeper/d.txt", ".hidden.txt"]:
        (tmp_path / name).write_text(name)
    return tmp_path


def _names(folder: Path, pattern: str) -> list[str]:
    return [os.path.relpath(path, folder) for path in expand(pattern, folder)]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.txt", ["a.txt"]),
        ("?.txt", ["a.txt", "b.txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "deep/c.txt", "deep/deeper/d.txt", "x1.txt", "x[1].txt"]),
        ("x[1].txt", ["x[1].txt"]),  # a name that exists is meant as it is written
        ("x[12].txt", ["x1.txt"]),
        ("deep/*", ["deep/c.txt"]),  # a glob finds files only
        ("deep", ["deep"]),
        ("none*", []),
        ("none.txt", []),
    ],
)
def test_local_names_and_globs_are_expanded(folder: Path, pattern: str, names: list[str]) -> None:
    assert _names(folder, pattern) == names
    assert _names(folder, str(folder / pattern)) == names
    assert _names(folder, f"file://{folder / pattern}") == names


def test_expanded_names_are_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert expand("a.txt", Path()) == expand("a.t?t", Path()) == [str(folder / "a.txt")]


@pytest.fixture
def memory() -> Any:
    """fsspec's file system in memory, with three files."""
    file_system = fsspec.filesystem("memory")
    for name in ["a.txt", "b.txt", "deep/c.txt"]:
        file_system.pipe(f"/locations/{name}", name.encode())
    return file_system


def test_urls_and_their_globs_are_expanded(memory: Any, tmp_path: Path) -> None:
    assert expand("memory://locations/a.txt", tmp_path) == ["memory://locations/a.txt"]
    assert expand("memory://locations/*.txt", tmp_path) == ["memory:///locations/a.txt", "memory:///locations/b.txt"]
    assert len(expand("memory://locations/**/*.txt", tmp_path)) == 3
    assert expand("memory://locations/*", tmp_path) == ["memory:///locations/a.txt", "memory:///locations/b.txt"]
    assert expand("memory://locations/none*", tmp_path) == expand("memory://locations/none", tmp_path) == []
    for path in expand("memory://locations/**/*.txt", tmp_path):
        with open_binary(path) as file:
            assert path.endswith(file.read().decode())


def test_a_file_in_an_archive_on_this_machine(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/x.txt", "x")
        archive.writestr("in/y.txt", "y")
    paths = expand("zip://in/*.txt::a.zip", tmp_path)
    assert paths == [f"zip://in/{name}.txt::{tmp_path / 'a.zip'}" for name in "xy"]
    with open_binary(paths[1]) as file:
        assert file.read() == b"y"
    assert size_of_file(paths[1]) == 1
    assert not can_seek(paths[1])
    assert expand("zip://in/*.txt::none.zip", tmp_path) == []


@pytest.mark.parametrize(
    ("url", "message"), [("foo://a/b", "Protocol not known: foo"), ("gs://b/x", "another library")]
)
def test_unusable_urls_are_refused(tmp_path: Path, url: str, message: str) -> None:
    for use in (open_binary, size_of_file, identity_of_file, lambda url: expand(url, tmp_path)):
        with pytest.raises(ValueError, match=f"^{url}: .*{message}"):
            use(url)


class _Answers(BaseHTTPRequestHandler):
    """Answers /CODE/… with this status; without an answer for 0."""

    def do_GET(self) -> None:
        status = int(self.path.split("/")[1])
        if status:
            self.send_response(status)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"text" if self.command == "GET" else b"")

    do_HEAD = do_GET

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_on_a_server_is_read(server: str, tmp_path: Path) -> None:
    url = f"{server}/200/a.txt?download=true"
    assert expand(url, tmp_path) == [url]
    with open_binary(url) as file:
        assert file.read() == b"text"


@pytest.mark.parametrize("status", [404, 410])
def test_a_missing_file_on_a_server_is_not_found(server: str, tmp_path: Path, status: int) -> None:
    assert expand(f"{server}/{status}/a.txt", tmp_path) == []
    with pytest.raises(FileNotFoundError):
        open_binary(f"{server}/{status}/a.txt")


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (401, "the server answers 401 Unauthorized"),
        (403, "the server answers 403 Forbidden"),
        (429, "the server answers 429 Too Many Requests"),
        (500, "the server answers 500 Internal Server Error"),
        (503, "the server answers 503 Service Unavailable"),
        (0, "Server disconnected"),
    ],
)
def test_the_answer_of_a_refusing_server_is_reported(server: str, tmp_path: Path, status: int, answer: str) -> None:
    for name in ("a.txt", "a.txt?download=true"):
        url = f"{server}/{status}/{name}"
        for use in (open_binary, size_of_file, identity_of_file, lambda url: expand(url, tmp_path)):
            with pytest.raises(ValueError) as caught:
                use(url)
            assert str(caught.value).startswith(f"{url}: cannot be read (") and answer in str(caught.value)


def test_an_unreachable_server_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^http://127\.0\.0\.1:1/a\.txt: cannot be read .*Cannot connect to host"):
        expand("http://127.0.0.1:1/a.txt", tmp_path)


def test_files_added_by_macos_are_ignored(tmp_path: Path) -> None:
    assert all(map(is_of_finder, ["__MACOSX/a.de", "x/__MACOSX/._a.de", "x/._a.de", "._a"]))
    assert not any(map(is_of_finder, ["a.de", "x/a._de", "__MACOSX", ".a.de", ""]))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("x.txt", "._x.txt", "__MACOSX/._x.txt", "__MACOSX/x.txt"):
            archive.writestr(name, name)
    assert expand("zip://**/*.txt::a.zip", tmp_path) == [f"zip://x.txt::{tmp_path / 'a.zip'}"]
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "b.txt").touch()
    assert expand("**/*.txt", tmp_path) == []


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"M\xfcller.txt")).touch()
    for pattern in ("*.txt", os.fsdecode(b"M\xfcller.txt")):
        with pytest.raises(
            ValueError, match=r"^b'.*M\\xfcller\.txt': the name is not valid UTF-8; rename the file"
        ) as caught:
            expand(pattern, tmp_path)
        str(caught.value).encode("ascii")


def test_pipes_devices_and_directories_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/null", "/dev/stdin", "/dev/fd/63"):
        with pytest.raises(ValueError, match=f"^{path}: a pipe or device; name a file"):
            check_can_be_read_again(path)
    with pytest.raises(ValueError, match=f"^{tmp_path}: a directory; name its files"):
        check_can_be_read_again(str(tmp_path))
    (tmp_path / "a.txt").touch()
    for path in (str(tmp_path / "a.txt"), str(tmp_path / "none"), "s3://bucket/a"):
        check_can_be_read_again(path)


def test_links_are_names_of_one_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text("the same")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "hard").hardlink_to(tmp_path / "a")
    real = {name: real_file(str(tmp_path / name)) for name in ("a", "b", "link", "hard", "none")}
    assert real["a"] == real["link"] == real["hard"] != real["b"]
    assert real["none"] == str(tmp_path / "none")


@pytest.mark.parametrize("path", ["none.txt", "memory://locations/none.txt"])
def test_a_missing_file_is_named(path: str) -> None:
    for use in (open_binary, size_of_file, identity_of_file):
        with pytest.raises(FileNotFoundError) as caught:
            use(path)
        assert caught.value.filename == path


def test_errors_of_a_remote_library_while_reading_name_the_file(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Exception):
        pass

    def fail(*arguments: Any) -> bytes:
        raise Broken("connection lost")

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFile, "read", fail)
    with (
        open_binary("memory://locations/a.txt") as file,
        pytest.raises(ValueError, match=r"^memory://locations/a\.txt: .*Broken: connection lost"),
    ):
        file.read()


def test_remote_files_can_be_read_anywhere(memory: Any) -> None:
    assert can_seek("memory://locations/a.txt")
    with open_binary("memory://locations/a.txt") as file:
        file.seek(2)
        assert file.read(2) == b"tx"
        assert file.tell() == 4


def test_servers_without_ranges_cannot_seek(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class StreamingFile(io.BytesIO):
        def seek(self, *arguments: Any) -> int:
            raise ValueError("Cannot seek streaming HTTP file")  # as fsspec's does

    monkeypatch.setattr(type(memory), "open", lambda *arguments, **options: StreamingFile(b"text"))
    assert not can_seek("memory://locations/a.txt")


def test_the_identity_of_a_small_file_is_its_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    identity = identity_of_file(str(tmp_path / "a"))
    os.utime(tmp_path / "a", (1, 1))
    assert identity_of_file(str(tmp_path / "a")) == identity
    (tmp_path / "a").write_text("two")
    assert identity_of_file(str(tmp_path / "a")) != identity
    assert identity[:2] == ["a", 3]


def test_the_identity_of_a_large_file_is_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "MAX_HASHED_BYTES", 2)
    (tmp_path / "a").write_text("one")
    identity = identity_of_file(str(tmp_path / "a"))
    assert identity == ["a", 3, (tmp_path / "a").stat().st_mtime_ns]
    os.utime(tmp_path / "a", (1, 1))
    assert identity_of_file(str(tmp_path / "a")) == ["a", 3, 10**9]


def test_the_identity_of_a_remote_file_is_what_its_server_says(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "memory://locations/a.txt"
    first = identity_of_file(url)
    assert first == identity_of_file(url)
    memory.pipe("/locations/a.txt", b"A.TXT")  # as long as before
    assert identity_of_file(url) != first
    # Where the server names a version, times do not matter.
    info = {"size": 5, "ETag": "abc", "LastModified": 1}
    monkeypatch.setattr(type(memory), "info", lambda *arguments, **options: info)
    assert identity_of_file(url) == [url, 5, "ETag=abc"]


def test_urls_are_told_from_paths() -> None:
    assert all(map(is_url, ["s3://a/b", "hf://datasets/x", "filecache::s3://a/b", "zip://x::a.zip"]))
    assert not any(map(is_url, ["a/b", "/a:b/c", "c:/a", "a//b", "über://x"]))
