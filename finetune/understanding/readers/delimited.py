"""Tables in text files, TSV and CSV, and files of a text a line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from data_tools.text.csv_rows import csv_rows
from data_tools.text.lines import TextLines, open_text
from finetune.understanding.readers.records import Record, fields_of_columns, joined, position_of
from finetune.understanding.tasks.task import FileKind, Format

ORIGINALS = ("original_a", "original_b")
LABEL = "label"  # the field that a test file may lack, if its column is the last


@dataclass(frozen=True)
class Layout:
    """The columns of a table: the positions of each field's, and the numbers of columns that a row may have."""

    positions: Mapping[str, tuple[int, ...]]
    counts: tuple[int, ...]  # the usual one last
    takes_more: bool
    takes_originals: bool

    @classmethod
    def of(cls, form: Format, names: list[str] | None, where: str) -> Self:
        """The layout of a form, with the `names` of the header if there is one.

        A row has as many columns as the header; without one, as many as the form names, or more if it does not name
        all up to the last. A label in the last column may be missing.
        """
        positions = {
            field: tuple(position_of(column, field, names or [], where) for column in columns)
            for field, columns in fields_of_columns(form).items()
        }
        every = {at for places in positions.values() for at in places}
        counted = {at for at in every if at >= 0}
        usual = max(len(names or []), max(counted, default=-1) + 1, *(-at for at in every), 1)
        names_all = names is not None or every == set(range(usual))
        is_label_last = positions.get(LABEL) in ((usual - 1,), (-1,)) and len(positions) > 1
        counts = (usual - 1, usual) if is_label_last else (usual,)
        return cls(positions, counts, form.more_columns or not names_all, form.originals)

    def values(self, cells: list[str]) -> dict[str, str]:
        """The fields of a row. Raises ValueError for a row with another number of columns."""
        if self.takes_originals and len(cells) == self.counts[-1] + len(ORIGINALS):
            originals, own = cells[: len(ORIGINALS)], cells[len(ORIGINALS) :]
            return {**self.values(own), **dict(zip(ORIGINALS, originals, strict=True))}
        if len(cells) not in self.counts and not (self.takes_more and len(cells) > self.counts[-1]):
            fields = ", ".join(sorted(self.positions, key=lambda field: self.positions[field]))
            more = "; for rows with further columns add more_columns: true" if len(cells) > self.counts[-1] else ""
            raise ValueError(f"{len(cells)} columns; expected {self.counts[-1]}, of which {fields} are read{more}")
        return {
            field: joined([cells[at] for at in places])
            for field, places in self.positions.items()
            if all(-len(cells) <= at < len(cells) for at in places)
        }


def records_of_table(path: Path, form: Format) -> Iterator[Record]:
    """The rows of a TSV or CSV file; raises ValueError that names the line for a row with other columns."""
    with open_text(path) as lines:
        counts = () if form.header else Layout.of(form, None, lines.place(1)).counts
        if counts and form.originals:
            counts = (*counts, counts[-1] + len(ORIGINALS))
        rows = filled_rows(lines, form) if form.kind is FileKind.CSV else tsv_rows(lines, form, counts)
        names = next(rows, (1, None))[1] if form.header else None
        if form.header and names is None:
            raise ValueError(f"{path}: empty; expected a first line with the names of the columns")
        layout = Layout.of(form, names, lines.place(1))
        for number, cells in rows:
            where = lines.place(number)
            try:
                yield Record(layout.values(cells), where)
            except ValueError as error:
                raise ValueError(f"{where}: {error}{hint_of(cells, form)}") from None


def hint_of(cells: list[str], form: Format) -> str:
    """The delimiter that a row of a single column seems to have instead, as the end of a sentence."""
    own = form.delimiter if form.kind is FileKind.CSV else "\t"
    others = [mark for mark in (",", ";", "\t") if mark != own and mark in cells[0]] if len(cells) == 1 else []
    return f"; its columns seem to be separated by {' or '.join(map(repr, others))}" if others else ""


def records_of_lines(path: Path) -> Iterator[Record]:
    """The lines of a file, each the text of a record."""
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            yield Record({"text": line}, lines.place(number))


def tsv_rows(lines: TextLines, form: Format, counts: tuple[int, ...]) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each line but blank ones at the end; `counts` are the numbers of columns it may have."""
    blank = 0
    for number, line in enumerate(lines, start=1):
        if blank:
            raise ValueError(f"{lines.place(blank)}: an empty line between rows")
        if not line:
            blank = number
        else:
            yield number, quoted_cells(line, counts) if form.quoted else line.split("\t")


def quoted_cells(line: str, counts: tuple[int, ...]) -> list[str]:
    """The columns of a line that may have been written by Python's csv; `counts` are those that it may have.

    XTREME's script writes so: a field with a double quote is quoted, and the quotes inside are doubled. Other files are
    plain, and there one sentence may begin with a quote and another end with one. So a line is split at its tabs if it
    is not valid csv, or if a csv field would contain a tab although the plain columns fit.
    """
    plain = line.split("\t")
    if '"' in line:
        try:
            fields = next(csv.reader([line], delimiter="\t", strict=True))
        except csv.Error:
            fields = []
        has_swallowed_tab = any("\t" in field for field in fields)
        if len(fields) >= min(counts, default=1) and not (has_swallowed_tab and len(plain) in counts):
            return fields
    return plain


def filled_rows(lines: TextLines, form: Format) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each row of CSV that is not blank."""
    return ((number, cells) for number, cells in csv_rows(lines, form.delimiter) if cells)
