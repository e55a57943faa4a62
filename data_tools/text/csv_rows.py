"""The rows of CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from data_tools.text.lines import MAX_LINE_BYTES, TextLines


def csv_rows(lines: TextLines, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells) of each row; quoted cells may hold delimiters and line breaks.

    Raises ValueError that names the line for a quote that is not closed, or is followed by text.
    """
    csv.field_size_limit(MAX_LINE_BYTES)  # for the whole process; 128 KiB by default
    rows = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True)
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise ValueError(f"{lines.place(number)}: broken CSV ({error}); is a quote not closed?") from None
        if row is None:
            return
        yield number, row
