import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.corpus.inputs import Input
from data_tools.readers import file_parts, parts_of
from data_tools.readers.file_parts import find_border

Read = Callable[..., Any]
# Characters of one to four bytes; white space that makes a line blank, of one and of three bytes.
LINE = st.text("aж語😀 \t\u3000\x85", max_size=6)
TEXT = st.builds(
    lambda lines, line_end, last: line_end.join(lines) + last * line_end,
    st.lists(st.one_of(LINE, st.just("")), max_size=20),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)


def _file(tmp_path_factory: pytest.TempPathFactory, name: str, text: str) -> Path:
    path = tmp_path_factory.mktemp("parts") / name
    path.write_bytes(text.encode())
    return path


def _in_parts(read: Read, item: Input, max_bytes: int) -> list[Any]:
    """The documents or pairs of all parts, one after the other."""
    parts = (read(item.format, *item.paths, part=part, columns=item.columns) for part in parts_of(item, max_bytes))
    return [unit for units, _ in parts for unit in units]


@settings(max_examples=200)
@given(text=TEXT, max_bytes=st.integers(1, 60))
def test_documents_of_all_parts(
    tmp_path_factory: pytest.TempPathFactory, read_documents: Read, text: str, max_bytes: int
) -> None:
    item = Input(("de",), "text", (str(_file(tmp_path_factory, "a.txt", text)),))
    whole, _ = read_documents("text", *item.paths)
    assert _in_parts(read_documents, item, max_bytes) == whole


@settings(max_examples=100)
@given(text=TEXT, max_bytes=st.integers(1, 60), max_search=st.integers(0, 30))
def test_documents_without_an_end_in_sight_are_cut_at_a_line(
    tmp_path_factory: pytest.TempPathFactory, read_documents: Read, text: str, max_bytes: int, max_search: int
) -> None:
    item = Input(("de",), "text", (str(_file(tmp_path_factory, "a.txt", text)),))
    whole, _ = read_documents("text", *item.paths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_parts, "MAX_SEARCH_BYTES", max_search)
        documents = _in_parts(read_documents, item, max_bytes)
    sentences = [sentence for document in documents for sentence in document]
    assert sentences == [sentence for document in whole for sentence in document]


@settings(max_examples=100)
@given(
    lines=st.lists(st.tuples(LINE, LINE), min_size=1, max_size=20),
    line_end=st.sampled_from(["\n", "\r\n"]),
    max_bytes=st.integers(1, 60),
)
def test_lines_of_all_parts(
    tmp_path_factory: pytest.TempPathFactory,
    read_pairs: Read,
    read_documents: Read,
    lines: list[tuple[str, str]],
    line_end: str,
    max_bytes: int,
) -> None:
    pairs = [(source.replace("\t", " "), target.replace("\t", " ")) for source, target in lines]
    tsv = _file(tmp_path_factory, "a.tsv", "".join(f"{source}\t{target}{line_end}" for source, target in pairs))
    assert _in_parts(read_pairs, Input(("de", "en"), "tsv", (str(tsv),)), max_bytes) == pairs
    objects = (json.dumps({"text": f"x{source}"}, ensure_ascii=False) for source, _ in lines)
    jsonl = _file(tmp_path_factory, "a.jsonl", line_end.join(objects))
    item = Input(("de",), "jsonl", (str(jsonl),), ("text",))
    assert _in_parts(read_documents, item, max_bytes) == [[f"x{source}"] for source, _ in lines]


def test_borders_are_at_lines_or_after_blank_lines(tmp_path: Path) -> None:
    #                  0    4      9   12     17
    content = "ab\r\nжж\r\n\r\ncd\ne\n\nlast".encode()
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    line_starts = [0, 4, 10, 12, 15, 17, 18, len(content)]
    document_starts = [0, 12, 18, len(content)]
    for offset in range(1, len(content) + 1):
        line_start = next(start for start in line_starts if start >= offset)
        assert find_border(str(path), offset, between_documents=False) == line_start
        # A line that begins a document may have the blank line before it cut off: the search goes on to the next one.
        expected = next(start for start in document_starts if start > line_start or start == len(content))
        assert find_border(str(path), offset, between_documents=True) == expected


def test_a_far_document_end_is_not_searched(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"line\n" * (file_parts.MAX_SEARCH_BYTES // 5 + 100) + b"\nnext\n")
    assert find_border(str(path), 3, between_documents=True) == 5
    assert find_border(str(path), 1000, between_documents=True) == path.stat().st_size - 5


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_compressed_files_are_not_cut(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(b"never read for this\n")
    assert parts_of(Input(("de",), "text", (str(path),)), 1) == [None]


def test_short_files_are_not_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"0123456789")
    item = Input(("de",), "text", (str(path),))
    assert parts_of(item, 10) == [None]
    assert parts_of(item, 9) == [(0, 9), (9, 10)]
    assert parts_of(item, 5) == [(0, 5), (5, 10)]


def test_remote_files_are_cut(read_documents: Read) -> None:
    fsspec.filesystem("memory").pipe("/borders/a.txt", b"one\n\ntwo\nthree\n\nfour\n")
    item = Input(("de",), "text", ("memory://borders/a.txt",))
    assert parts_of(item, 8) == [(0, 8), (8, 16), (16, 21)]
    parts = [read_documents("text", *item.paths, part)[0] for part in parts_of(item, 8)]
    assert parts == [[["one"], ["two", "three"]], [["four"]], []]
