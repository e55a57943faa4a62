import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from data_tools.text import lines
from data_tools.text.lines import READ_BYTES, num_line_ends, open_prose, open_text, read_text

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".bz2": bz2.compress,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
# Any text without a line end; surrogates have no UTF-8, NUL is in no text, and a CR before a line end is part of it.
LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\ufeff")).filter(lambda x: x[-1:] != "\r")
)


@pytest.mark.parametrize("suffix", COMPRESSORS)
@given(lines=LINES, line_end=st.sampled_from(["\n", "\r\n"]), ends_with_line_end=st.booleans())
def test_lines_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, lines: list[str], line_end: str, ends_with_line_end: bool
) -> None:
    text = line_end.join(lines)
    if ends_with_line_end and lines:
        text += line_end
    elif lines and not lines[-1]:
        lines = lines[:-1]  # without a line end, an empty last line is no line
    assume("\n" in text or text.count("\r") < 2)  # otherwise they are taken for line ends
    path = tmp_path_factory.mktemp("text") / f"a.txt{suffix}"
    path.write_bytes(COMPRESSORS[suffix](text.encode()))
    assert list(open_text(path)) == lines


def test_only_line_feeds_end_lines_and_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\u2028still one\x0b\x0c\x85\r\ntwo\ufeff\n".encode())
    assert list(open_text(path)) == ["one\u2028still one\x0b\x0c\x85", "two\ufeff"]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_text_that_would_be_one_line_of_many_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"old.tsv{suffix}"
    path.write_bytes(COMPRESSORS[suffix](b"one\teins\rtwo\tzwei\r"))
    with pytest.raises(ValueError, match=r"lines end with CR alone \(2 of them and no LF\), .*: tr '\\r' '\\n'$"):
        list(open_text(path))


@pytest.mark.parametrize(
    ("content", "lines"),
    [(b"one\rstill one", ["one\rstill one"]), (b"one\r", ["one"]), (b"one\rstill\rone\n", ["one\rstill\rone"])],
)
def test_returns_inside_a_line_are_kept(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    (tmp_path / "text").write_bytes(content)
    assert list(open_text(tmp_path / "text")) == lines


def test_lines_may_cross_the_ends_of_blocks(tmp_path: Path) -> None:
    lines = [f"{i} " + "ж" * (i % 700) for i in range(10_000)]
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode(), compresslevel=1))
    assert len("\n".join(lines).encode()) > 4 * READ_BYTES
    with open_text(path) as read:
        assert list(read) == lines
        assert read.num_bytes_read == path.stat().st_size


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_not_utf8_names_file_and_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"latin1.txt{suffix}"
    num_lines = 100_000  # several blocks, so that the count goes on across them
    text = b"a line of text\n" * num_lines + b"ok\n" + "Fahrräder\n".encode("latin-1") + b"more\n"
    path.write_bytes(COMPRESSORS[suffix](text))
    with pytest.raises(ValueError, match=rf"latin1\.txt{suffix}: line {num_lines + 2} is not UTF-8 \(byte 0xe4"):
        list(open_text(path))


@pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESSORS if suffix])
def test_a_truncated_or_foreign_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    whole = COMPRESSORS[suffix]("".join(f"line {i}\n" for i in range(10_000)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"a\.txt{suffix}: damaged or cut short"):
        list(open_text(path))
    path.write_bytes(b"this was never compressed\n" * 100)
    with pytest.raises(ValueError, match=rf"a\.txt{suffix}: by its suffix {suffix} .*, found something else"):
        list(open_text(path))


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_text(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="found a directory"):
        open_text(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\n".encode(encoding))
    for read in (lambda path: list(open_text(path)), read_text):
        with pytest.raises(ValueError, match=r"a\.txt: UTF-16, expected UTF-8; .*iconv"):
            read(path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["eins\nzwei\n", "Äpfel 😀\n", "你好\n"])
def test_wide_encodings_without_a_mark_are_named(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(text.encode(encoding)))
    name = encoding.upper().replace("-LE", "LE").replace("-BE", "BE")
    with pytest.raises(
        ValueError, match=rf"a\.txt\.gz: {name} without a byte order mark, .*: iconv -f {name} -t UTF-8"
    ):
        list(open_text(path))


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_nul_byte_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(COMPRESSORS[suffix](b"a line of text\n" * 100_000 + b"b\0c\n"))
    with pytest.raises(ValueError, match=rf"a\.txt{suffix}: line 100001 holds a NUL byte"):
        list(open_text(path))


def test_files_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for content in (gzip.compress(b"one\n"), bz2.compress(b"one\n"), b"PK\x03\x04", b"%PDF-1.4\n"):
        path.write_bytes(content)
        for read in (lambda path: list(open_text(path)), read_text):
            with pytest.raises(ValueError, match=r"a\.txt: .*, expected text in UTF-8; ") as caught:
                read(path)
            assert "iconv" not in str(caught.value)


def test_json_and_markup_are_not_prose(tmp_path: Path) -> None:
    for name, text, kind in [
        ("a.de", '\ufeff{"text": "one"}\n', "JSON, .*; extract its text$"),
        ("b.de", "<html>", "HTML"),
        ("c.jsonl", "", "by its suffix"),
    ]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert list(open_text(tmp_path / name)) == text.removeprefix("\ufeff").splitlines()
        with pytest.raises(ValueError, match=f"{name}: {kind}"):
            list(open_prose(tmp_path / name))
    (tmp_path / "d.de").write_text("one\n<b>two</b>\n")
    with open_prose(tmp_path / "d.de") as lines:
        assert list(lines) == ["one", "<b>two</b>"]


@pytest.mark.parametrize(("content", "lines"), [(b"", []), (b"\xef\xbb\xbf", []), (b"\xef\xbb\xbf\n", [""])])
def test_very_short_files_are_read(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert list(open_text(path)) == lines


def test_a_range_of_bytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("eins\nzwei\n\ufeffdrei\nvier\n", encoding="utf-8")
    with open_text(path, 5, 18) as lines:
        # In the middle of a file the mark is a character as any other.
        assert [*lines] == ["zwei", "\ufeffdrei"]
        assert lines.num_bytes_read == 13
        assert lines.place(2) == f"{path}: line 3"
    assert lines.num_bytes_read == 13
    assert list(open_text(path, 5, 5)) == []


def test_an_error_in_a_range_names_the_line_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    before = b"x" * 100 + b"\n"
    path.write_bytes(before * 30_000 + b"ok\n\xff\n")
    assert len(before) * 30_000 > 2 * READ_BYTES
    with pytest.raises(ValueError, match=r"a\.txt: line 30002 is not UTF-8 \(byte 0xff"):
        list(open_text(path, len(before) * 29_000))


@given(st.binary(max_size=40), st.integers(0, 40))
def test_line_ends_are_counted(tmp_path_factory: pytest.TempPathFactory, content: bytes, end: int) -> None:
    path = tmp_path_factory.mktemp("text") / "a"
    path.write_bytes(content)
    assert num_line_ends(str(path), end) == content[:end].count(b"\n")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_line_that_is_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 2 * READ_BYTES)
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(COMPRESSORS[suffix](b"one\n" + b"x" * 4 * READ_BYTES))
    with pytest.raises(ValueError, match=rf"a\.txt{suffix}: line 2 is longer than 2 MiB"):
        list(open_text(path))


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_remote_file_is_read(suffix: str) -> None:
    url = f"memory://text_lines/a.txt{suffix}"
    content = COMPRESSORS[suffix](b"eins\nzwei\n" * 1000)
    fsspec.filesystem("memory").pipe("/text_lines/a.txt" + suffix, content)
    with open_text(url) as lines:
        assert list(lines) == ["eins", "zwei"] * 1000
        assert lines.num_bytes_read == len(content)


def test_an_error_in_a_range_of_a_remote_file_names_the_byte() -> None:
    fsspec.filesystem("memory").pipe("/text_lines/b.txt", b"one\ntwo\n\xff\n")
    with pytest.raises(ValueError, match=r"^memory://text_lines/b\.txt: line 2 after byte 4 is not UTF-8"):
        list(open_text("memory://text_lines/b.txt", 4))


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_a_whole_text_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.json{suffix}"
    path.write_bytes(COMPRESSORS[suffix]("\ufeff{}\r\nж\u2028".encode()))
    assert read_text(path) == "{}\r\nж\u2028"
    path.write_bytes(COMPRESSORS[suffix](b"ab\xff"))
    with pytest.raises(ValueError, match=rf"{path.name}: not UTF-8 at byte 2 .*; convert the file"):
        read_text(path)


@pytest.mark.parametrize("suffix", [suffix for suffix in COMPRESSORS if suffix])
def test_a_truncated_whole_text_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.json{suffix}"
    path.write_bytes(COMPRESSORS[suffix](bytes(range(256)) * 40)[:-20])
    with pytest.raises(ValueError, match="damaged or cut short"):
        read_text(path)
