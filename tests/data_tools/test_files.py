import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from data_tools.files import READ_BYTES, atomic_directory, atomic_path, open_text, sha256_of

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
# Any text without a line end; surrogates have no UTF-8, and a CR before a line end is part of the line end.
LINES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\ufeff")).filter(lambda x: x[-1:] != "\r")
)


def test_atomic_path_appears_at_the_end_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("content")
        assert not path.exists()
        assert temporary.parent == path.parent  # os.replace is atomic within one file system
    assert path.read_text() == "content"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_path_keeps_the_old_file_on_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("in the middle")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_directory(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "directory"
    with atomic_directory(path) as temporary:
        (temporary / "a").write_text("1")
        assert not path.exists()
    with pytest.raises(ValueError, match="exists already"), atomic_directory(path):
        pass
    with pytest.raises(RuntimeError), atomic_directory(path, overwrite=True) as temporary:
        (temporary / "b").write_text("2")
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["a"]
    with atomic_directory(path, overwrite=True) as temporary:
        (temporary / "b").write_text("2")
    assert [file.name for file in path.iterdir()] == ["b"]
    assert [file.name for file in path.parent.iterdir()] == ["directory"]


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
    path = tmp_path_factory.mktemp("text") / f"a.txt{suffix}"
    path.write_bytes(COMPRESSORS[suffix](text.encode()))
    assert list(open_text(path)) == lines


def test_only_line_feeds_end_lines_and_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\u2028still one\x0b\x0c\x85\r\ntwo\ufeff\n".encode())
    assert list(open_text(path)) == ["one\u2028still one\x0b\x0c\x85", "two\ufeff"]


def test_blocks_join(tmp_path: Path) -> None:
    lines = [f"{i} " + "ж" * (i % 700) for i in range(10_000)]
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode(), compresslevel=1))
    assert len("\n".join(lines).encode()) > 4 * READ_BYTES
    with open_text(path) as read:
        assert list(read) == lines
        assert read.num_bytes_read == path.stat().st_size


def test_zst_of_several_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    compress = zstandard.ZstdCompressor().compress
    path.write_bytes(compress(b"one\ntw") + compress(b"o\nthree"))
    assert list(open_text(path)) == ["one", "two", "three"]


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_not_utf8_names_file_and_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"latin1.txt{suffix}"
    num_lines = 100_000  # several blocks, so that the count goes on across them
    text = b"a line of text\n" * num_lines + b"ok\n" + "Fahrräder\n".encode("latin-1") + b"more\n"
    path.write_bytes(COMPRESSORS[suffix](text))
    with pytest.raises(ValueError, match=rf"latin1\.txt{suffix}: line {num_lines + 2} is not UTF-8 \(byte 0xe4"):
        list(open_text(path))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_cut_short_or_foreign(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    whole = COMPRESSORS[suffix]("".join(f"line {i}\n" for i in range(10_000)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=rf"a\.txt{suffix}: damaged or cut short"):
        list(open_text(path))
    path.write_bytes(b"this was never compressed\n" * 100)
    with pytest.raises(ValueError, match=rf"a\.txt{suffix}: damaged or cut short"):
        list(open_text(path))


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_text(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="found a directory"):
        open_text(tmp_path)


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")  # the example of FIPS 180
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
