"""Thesauri in MyThes' format: encodings, notes, what is no synonym, broken lines counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_tools.lexicons.mythes import read_thesaurus

KRATER = "krater|1\n-|Krater|Trichter|Drachen (ugs., fig.)\n"


def read(content: bytes, tmp_path: Path) -> tuple[list[tuple[str, str]], int]:
    path = tmp_path / "th.dat"
    path.write_bytes(content)
    found = read_thesaurus(path)
    return list(found.pairs), found.num_broken


@pytest.mark.parametrize("prefix", [b"UTF-8\n", b"\xef\xbb\xbfUTF-8\n", b"\xef\xbb\xbf", b""])
def test_encoding_line_and_byte_order_mark_may_be_there_or_not(prefix: bytes, tmp_path: Path) -> None:
    expected = [("krater", "Krater"), ("krater", "Trichter"), ("krater", "Drachen")]
    assert read(prefix + KRATER.encode(), tmp_path) == (expected, 0)


@pytest.mark.parametrize(("named", "encoding"), [("ISO8859-1", "latin-1"), ("microsoft-cp1251", "cp1251")])
def test_other_encodings(named: str, encoding: str, tmp_path: Path) -> None:
    word = {"latin-1": "été", "cp1251": "город"}[encoding]
    content = f"{named}\n{word}|1\n(Nom)|{word}{word}\n".encode(encoding)
    assert read(content, tmp_path) == ([(word, word + word)], 0)


def test_only_synonyms_are_kept(tmp_path: Path) -> None:
    content = """UTF-8
hot|2
(adj)|warm|cold (antonym)|fiery (similar term)|temperature (generic term)|hot
(noun)|heat (related term)
мир|2
(синоним)|покой
(антоним)|война
haus|1
-|Gebäude (Oberbegriff)|Bau
"""
    expected = [("hot", "warm"), ("hot", "fiery"), ("мир", "покой"), ("haus", "Bau")]
    assert read(content.encode(), tmp_path) == (expected, 0)


@pytest.mark.parametrize(
    ("content", "num_broken"),
    [
        ("a line of text\n" + KRATER, 1),
        ("haus|2\n-|Bau\n" + KRATER, 1),  # says two meanings and has one
        ("haus|1\n-|Bau\n-|Heim\n" + KRATER, 1),  # says one and has two
        (KRATER + "haus|1\n", 1),  # cut short
        ("haus|1\nBau\n" + KRATER, 1),
    ],
)
def test_broken_lines_are_counted_and_cost_nothing_else(content: str, num_broken: int, tmp_path: Path) -> None:
    pairs, found = read(f"UTF-8\n{content}".encode(), tmp_path)
    assert found == num_broken
    assert [pair for pair in pairs if pair[0] == "krater"] == [
        ("krater", "Krater"),
        ("krater", "Trichter"),
        ("krater", "Drachen"),
    ]


def test_a_codec_of_no_text_is_no_encoding(tmp_path: Path) -> None:
    (tmp_path / "th.dat").write_text("hex\nkrater|1\n-|Trichter\n")
    assert read_thesaurus(tmp_path / "th.dat").pairs == (("krater", "Trichter"),)


def test_line_in_another_encoding_is_counted(tmp_path: Path) -> None:
    pairs, num_broken = read(KRATER.encode() + b"t\xfcr|1\n-|Tor\n" + b"haus|1\n-|Bau\n", tmp_path)
    assert pairs[-1] == ("haus", "Bau") and num_broken == 2  # the meaning is then of no entry


@pytest.mark.parametrize("content", [b"", b"UTF-8\n", b"free\tfrei\n"])
def test_files_that_are_none(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a thesaurus in MyThes' format"):
        read(content, tmp_path)
