"""Tables of text, TSV and CSV, of which one or two columns are read."""

from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from typing import Any, ClassVar

from data_tools.corpus.inputs import Input, Part
from data_tools.readers.source import documents_of, listed
from data_tools.readers.text import LineSource
from data_tools.text.csv_rows import csv_rows
from data_tools.text.lines import MAX_LINE_BYTES, TextLines, open_text

FIRST_COLUMNS = (1, 2)


class TableSource(LineSource):
    """The text, or the pair, in the given columns of each row; other columns are ignored.

    Columns are numbered from 1 (by default the first two), or named in the first row, which then is not text. Rows
    without any text count as `empty`; a file without rows needs no names. Raises ValueError naming a line with too few
    columns, or a name that is not in the first row exactly once.
    """

    separator: str  # the character between columns, in words
    other_separators: ClassVar[dict[str, str]] = {}  # separators of other programs, which are rare in text

    def __init__(self, item: Input, part: Part | None) -> None:
        super().__init__(item, part)
        columns = item.columns or FIRST_COLUMNS
        self._has_header = isinstance(columns[0], str)
        try:
            self._columns = self._find_columns() if self._has_header else [int(number) - 1 for number in columns]
        except BaseException:
            self.close()
            raise

    def documents(self) -> Iterator[list[str]]:
        for text in self._cells():
            documents = documents_of(text)
            yield from documents
            if not documents:
                self.dropped["empty"] += 1

    def pairs(self) -> Iterator[tuple[str, str]]:
        return self._cells()

    @abstractmethod
    def _rows(self, lines: TextLines, num_cells: int) -> Iterator[tuple[int, list[str]]]:
        """(line number, cells) of each row; all cells after the first `num_cells` may be returned as one."""

    def _find_columns(self) -> list[int]:
        """The positions of the columns by their names in the first row of the file."""
        (path,) = self.item.paths
        with open_text(path) as lines:
            _, names = next(self._rows(lines, MAX_LINE_BYTES), (1, None))
        if names is None:
            return list(range(len(self.item.columns)))
        for name in self.item.columns:
            if names.count(str(name)) != 1:
                found = "more than one" if name in names else "none"
                raise ValueError(
                    f"{path}: line 1: expected one column {name!r}, found {found}; the names there are {listed(names)}"
                    f"{self._hint(names)}"
                )
        return [names.index(str(name)) for name in self.item.columns]

    def _cells(self) -> Iterator[Any]:
        """The cells of each row in the columns: a text for one column, a tuple for two."""
        num_cells = max(self._columns) + 1
        pick = itemgetter(*self._columns)
        is_first = self.part is None or self.part[0] == 0
        rows = self._rows(self.lines, num_cells)
        for number, row in islice(rows, int(self._has_header and is_first), None):
            if len(row) >= num_cells:
                yield pick(row)
            elif not "".join(row).strip():
                self.dropped["empty"] += 1
            else:
                raise ValueError(
                    f"{self.lines.place(number)}: expected {num_cells} columns separated by a {self.separator}, "
                    f"found {len(row)}{self._hint(row)}"
                )

    def _hint(self, row: list[str]) -> str:
        """The separator that a row with too few columns seems to have instead, as the end of a sentence."""
        others = [name for name, character in self.other_separators.items() if len(row) == 1 and character in row[0]]
        return f"; it seems to be separated by {others[0]}: save it with a {self.separator} instead" if others else ""


class TsvSource(TableSource):
    """Columns separated by tabs. Quotes are text."""

    separator = "tab"

    def _rows(self, lines: TextLines, num_cells: int) -> Iterator[tuple[int, list[str]]]:
        for number, line in enumerate(lines, start=1):
            yield number, line.split("\t", num_cells)


class CsvSource(TableSource):
    """Columns separated by commas. Quoted cells may hold commas and line breaks, so a file cannot be cut."""

    separator = "comma"
    other_separators: ClassVar = {";": ";", "tabs": "\t"}  # Excel writes ; where the comma is a decimal sign

    @classmethod
    def parts_of(cls, item: Input, max_bytes: int) -> list[Part | None]:
        return [None]

    def _rows(self, lines: TextLines, num_cells: int) -> Iterator[tuple[int, list[str]]]:
        return csv_rows(lines)
