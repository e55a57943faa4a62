"""How results are written: DIR/NAME.json for programs, NAME.csv for spreadsheets, NAME.md for people.

Shares and scores are numbers between 0 and 1 in JSON and CSV; people read them in percent.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.files.atomic import write_texts

Cell = str | int | float | None


@dataclass(frozen=True)
class Column:
    """The name of a column, and how people read its numbers: in percent, or with so many decimals."""

    name: str
    is_percent: bool = False
    decimals: int = 1

    def shown(self, cell: Cell) -> str:
        """A cell in Markdown; a missing number is a dash."""
        if cell is None or (isinstance(cell, float) and math.isnan(cell)):
            return "–"
        if isinstance(cell, float):
            return f"{cell * (100 if self.is_percent else 1):z.{self.decimals}f}"  # z: no -0.0
        return str(cell).replace("|", "\\|")

    @property
    def title(self) -> str:
        """The name above a column in Markdown."""
        name = self.name.replace("|", "\\|")
        return f"{name}, %" if self.is_percent else name


@dataclass(frozen=True)
class Table:
    """Rows of cells under named columns; None and NaN are missing numbers."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    def markdown(self) -> str:
        """The title and the table."""
        lines = [[column.title for column in self.columns], ["---"] * len(self.columns)]
        lines += [[column.shown(cell) for column, cell in zip(self.columns, row, strict=True)] for row in self.rows]
        return "\n".join([f"## {self.title}", "", *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"

    def csv(self) -> str:
        """The names of the columns and all rows, with numbers as exact as they are."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([column.name for column in self.columns])
        writer.writerows([["" if cell is None else cell for cell in row] for row in self.rows])
        return text.getvalue()


def result_names(name: str, figures: Sequence[str] = ()) -> list[str]:
    """The files of a command's results: see `write_results` and `analysis.figures.save`."""
    return [f"{name}.json", f"{name}.csv", f"{name}.md", *(f"{one}.{end}" for one in figures for end in ("png", "svg"))]


def write_results(
    output: Path, name: str, heading: str, content: Mapping[str, Any], tables: Sequence[Table], table: Table
) -> None:
    """Write the results of a command: `content` as JSON, `tables` as Markdown below a heading, `table` as CSV.

    The JSON says that the command has finished: it is written last, and figures are drawn before all of these.
    """
    markdown = "\n".join([f"# {heading}\n", *(one.markdown() for one in tables)])
    texts = {
        f"{name}.csv": table.csv(),
        f"{name}.md": markdown,
        f"{name}.json": json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n",
    }
    write_texts(output, texts)
    print(markdown, end="")


def number_or_none(value: float) -> float | None:
    """A number as JSON has it, which knows no NaN."""
    return None if math.isnan(value) else float(value)
