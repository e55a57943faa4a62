"""Lines to translate: in blocks from files, as they arrive on standard input, and input that is refused."""

from __future__ import annotations

import gzip
import io
import os
import sys
from pathlib import Path

import pytest
from digits import write_lines

from finetune.mt.decoding.input_lines import BLOCK_LINES, count_lines, read_blocks, ready_lines


def test_available_lines_are_returned_at_once() -> None:
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as stream, open(write_end, "wb", buffering=0) as sender:
        lines = ready_lines(stream)
        sender.write(b"eins\nzwei\ndr")
        assert next(lines) == ["eins", "zwei"]
        sender.write("ei\r\nvi\u2028er".encode())
        assert next(lines) == ["drei"]
        sender.close()
        assert list(lines) == [["vi\u2028er"]]
    with pytest.raises(ValueError, match=r"standard input: line 3 is not UTF-8 \(byte 0xfc"):
        list(ready_lines(io.BytesIO(b"a\nb\n\xfc\n")))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        "ein Haus\nzwei\n".encode("utf-16"),
        "ein Haus\nzwei\n".encode("utf-16-le"),
        gzip.compress(b"ein Haus\n", mtime=0),
        b"eins\nzwei\0\n",
        b"eins\nzw\xfcei\n",
        b"<html><body>eins\n",
        b'{"text": "eins"}\n',
    ],
)
def test_standard_input_is_checked_like_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """With the same reason under its own name; and a byte order mark is not part of the text."""
    path = tmp_path / "text"
    path.write_bytes(content)
    reasons = []
    for source in (str(path), "-"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        with pytest.raises(ValueError, match=r"text|input") as caught:
            list(read_blocks(source, None))
        reasons.append(str(caught.value).replace(str(path), "standard input"))
    assert reasons[0] == reasons[1]
    stream = io.BytesIO("\ufeffeins\n\nzwei".encode())
    assert list(ready_lines(stream)) == [["eins", ""], ["zwei"]]  # type: ignore[arg-type]


def test_blocks_of_files(tmp_path: Path) -> None:
    number = BLOCK_LINES + 3
    source = write_lines(tmp_path / "source", [f"s{i}" for i in range(number)])
    reference = write_lines(tmp_path / "reference", [f"r{i}" for i in range(number)])
    assert count_lines(str(source), str(reference)) == number
    first, second = read_blocks(str(source), str(reference))
    assert (first.first, second.first, len(first.sources)) == (0, BLOCK_LINES, BLOCK_LINES)
    assert second.sources == [f"s{i}" for i in range(BLOCK_LINES, number)]
    assert second.references == [f"r{i}" for i in range(BLOCK_LINES, number)]
    assert [block.references for block in read_blocks(str(source), None)] == [None, None]
