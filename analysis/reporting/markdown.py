"""The tables of a command's NAME.md, read back: see `analysis.results.Table.markdown`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

BORDER = re.compile(r"(?<!\\)\|")
NUMBER = re.compile(r"[-+−]?[\d,]+(\.\d+)?([eE][-+]?\d+)?|–|nan")


@dataclass(frozen=True)
class ShownTable:
    """A table as people read it: a title, the names of the columns, and rows of texts."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    @property
    def is_number(self) -> list[bool]:
        """Whether each column has numbers, or dashes for missing ones, alone."""
        return [
            bool(self.rows) and all(NUMBER.fullmatch(row[place]) for row in self.rows)
            for place in range(len(self.header))
        ]


def tables_of(markdown: str) -> list[ShownTable]:
    """All tables, with the last heading above each. Raises ValueError for a row of another width than its header."""
    tables: list[ShownTable] = []
    title, rows = "", list[list[str]]()
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            rows.append(cells_of(line))
            continue
        if len(rows) > 1:
            header, _, *body = rows
            if wrong := [row for row in body if len(row) != len(header)]:
                raise ValueError(f"table {title!r}: expected {len(header)} columns, found {wrong[0]}")
            tables.append(ShownTable(title, header, body))
        rows = []
        if line.startswith("#"):
            title = line.lstrip("#").strip()
    return tables


def cells_of(line: str) -> list[str]:
    """The cells of `| a | b |`."""
    return [cell.strip().replace("\\|", "|") for cell in BORDER.split(line)[1:-1]]
