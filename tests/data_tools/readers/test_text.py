import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.inputs import Input
from data_tools.readers import InputReader
from data_tools.readers.source import MAX_DOCUMENT_CHARACTERS

Read = Callable[..., Any]


def _file(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_blank_lines_end_documents(tmp_path: Path, read_documents: Read, line_end: str) -> None:
    lines = ["\ufeffone", " two ", " \t\u3000", "", "three\u2028four", "\u200b", "", ""]
    path = _file(tmp_path, "a.txt", line_end.join(lines))
    assert read_documents("text", path) == ([["one", " two "], ["three\u2028four", "\u200b"]], {})


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", " \r\n\n"])
def test_no_text(tmp_path: Path, read_documents: Read, text: str) -> None:
    assert read_documents("text", _file(tmp_path, "a.txt", text)) == ([], {})


def test_long_documents_are_cut_between_lines(tmp_path: Path, read_documents: Read) -> None:
    limit = MAX_DOCUMENT_CHARACTERS
    lines = ["ж" * (limit // 4)] * 9 + ["x" * (2 * limit), "end"]
    path = _file(tmp_path, "a.txt", "\n".join(lines) + "\n\nnext")
    documents, _ = read_documents("text", path)
    assert [list(map(len, document)) for document in documents] == [
        [limit // 4] * 9,  # no line ends a passage, so it goes on to twice the limit
        [2 * limit, 3],
        [4],
    ]


def test_bytes_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"one\n\ntwo\n" * 1000))
    with InputReader(Input(("de",), "text", (str(path),)), None) as reader:
        assert sum(1 for _ in reader.documents()) == 1001
        assert reader.num_bytes_read == path.stat().st_size
    assert reader.num_bytes_read == path.stat().st_size


def test_tsv(tmp_path: Path, read_pairs: Read) -> None:
    path = _file(tmp_path, "p.tsv", 'eins\tone\n"zwei\ttwo"\t0.7\tmore\n\tthree\n')
    assert read_pairs("tsv", path) == ([("eins", "one"), ('"zwei', 'two"'), ("", "three")], {})
    broken = _file(tmp_path, "q.tsv", "eins\tone\nzwei two\n")
    with pytest.raises(ValueError, match=r"q\.tsv: line 2: expected two columns"):
        read_pairs("tsv", broken)


def test_a_part_of_tsv_names_the_line_of_the_file(tmp_path: Path, read_pairs: Read) -> None:
    path = _file(tmp_path, "p.tsv", "eins\tone\nzwei\ttwo\ndrei three\n")
    with pytest.raises(ValueError, match=r"p\.tsv: line 3: expected two columns"):
        read_pairs("tsv", path, part=(9, 29))


def test_moses(tmp_path: Path, read_pairs: Read) -> None:
    source = _file(tmp_path, "p.de", "eins\r\n\r\ndrei\r\n")
    target = tmp_path / "p.en.gz"
    target.write_bytes(gzip.compress(b"one\ntwo\nthree"))
    assert read_pairs("moses", source, target) == ([("eins", "one"), ("", "two"), ("drei", "three")], {})


@pytest.mark.parametrize(("num_source", "num_target"), [(5, 3), (3, 5), (0, 1), (1, 0)])
def test_unequal_files_name_both_counts(tmp_path: Path, read_pairs: Read, num_source: int, num_target: int) -> None:
    source, target = _file(tmp_path, "p.de", "a\n" * num_source), _file(tmp_path, "p.en", "b\n" * num_target)
    with pytest.raises(ValueError, match=rf"p\.de has {num_source} lines, .*p\.en has {num_target}: "):
        read_pairs("moses", source, target)


def test_missing_file(tmp_path: Path, read_pairs: Read) -> None:
    with pytest.raises(FileNotFoundError):
        read_pairs("moses", _file(tmp_path, "p.de", "a\n"), tmp_path / "p.en")
