"""Bilingual lexicons: forms of lines, broken ones counted, files that are none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from data_tools.lexicons.bilingual import read_lexicon


@pytest.mark.parametrize(
    ("content", "pairs", "num_broken"),
    [
        ("free\tfrei\nfree of charge\tumsonst\n", [("free", "frei"), ("free of charge", "umsonst")], 0),
        ("free\tfrei\r\n\r\nhouse\tHaus", [("free", "frei"), ("house", "Haus")], 0),
        ("\ufefffree\tfrei\n", [("free", "frei")], 0),
        ("free frei\nhouse Haus\n", [("free", "frei"), ("house", "Haus")], 0),  # MUSE
        ("free frei\nhouse Haus\na\tb\n", [("free", "frei"), ("house", "Haus")], 1),
        ("free frei\nfree of charge umsonst\nhouse\n", [("free", "frei")], 2),  # where a word ends is not known
        ("free\tfrei\nhouse Haus\nhouse\nhouse\t\n\tHaus\na\tb\tc\n", [("free", "frei")], 5),
        ("new  york\t New York\n", [("new york", "New York")], 0),
    ],
)
def test_lines(content: str, pairs: list[tuple[str, str]], num_broken: int, tmp_path: Path) -> None:
    path = tmp_path / "de.txt"
    path.write_bytes(content.encode())
    found = read_lexicon(path)
    assert (list(found.pairs), found.num_broken) == (pairs, num_broken)


def test_a_line_in_another_encoding_costs_that_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "de.txt.gz"
    path.write_bytes(gzip.compress(b"free\tfrei\n" + "flat\tflügel\n".encode("latin-1") + b"house\tHaus\n"))
    found = read_lexicon(path)
    assert (found.pairs, found.num_broken) == ((("free", "frei"), ("house", "Haus")), 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "de.txt: no such file"),
        (b"", "de.txt: expected lines of WORD TAB TRANSLATION in UTF-8, found an empty file"),
        (b"a b c\nd\n", "de.txt: expected lines of WORD TAB TRANSLATION in UTF-8, found 2 others"),
    ],
)
def test_files_that_are_none(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "de.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_lexicon(tmp_path / "de.txt")


def test_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "de.txt.gz").write_bytes(gzip.compress(b"free\tfrei\n" * 1000)[:-20])
    with pytest.raises(ValueError, match=r"de\.txt\.gz: damaged or cut short"):
        read_lexicon(tmp_path / "de.txt.gz")
