"""Tables of Markdown, read back as they were written."""

from __future__ import annotations

import pytest

from analysis.reporting.markdown import ShownTable, tables_of
from analysis.results import Column, Table


def test_tables_are_read_as_they_were_written() -> None:
    columns = [Column("a | b"), Column("share", is_percent=True), Column("x", decimals=2)]
    one = Table("One & <two>", columns, [["x|y", 0.5, -1.0], ["", None, 3]])
    other = Table("Empty", [Column("name")], [])
    text = "# Heading\n\nSome words.\n" + one.markdown() + "\n" + other.markdown()
    first, second = tables_of(text)
    assert first == ShownTable("One & <two>", ["a | b", "share, %", "x"], [["x|y", "50.0", "-1.00"], ["", "–", "3"]])
    assert first.is_number == [False, True, True]
    assert second == ShownTable("Empty", ["name"], []) and second.is_number == [False]
    assert tables_of("") == tables_of("| a |\n") == []


@pytest.mark.parametrize(
    ("cell", "is_number"),
    [
        ("1", True),
        ("-0.5", True),
        ("−2", True),
        ("1,234.5", True),
        ("–", True),
        ("1e-05", True),
        ("0, 1", False),
        ("", False),
    ],
)
def test_numbers_are_told_from_texts(cell: str, is_number: bool) -> None:
    assert ShownTable("", ["x"], [["1"], [cell]]).is_number == [is_number]


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="table 'x': expected 2 columns, found .*'1'"):
        tables_of("## x\n| a | b |\n| --- | --- |\n| 1 |\n")
