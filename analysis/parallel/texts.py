"""Sentences of several languages that translate each other, read from files line by line.

`en=en.txt` is a file of a sentence a line, `en,de=pairs.tsv` one whose first columns, separated by tabs, are English
and German. Line i of all files belongs together.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.options import name_and_file
from data_tools.files.locations import check_can_be_read_again
from data_tools.text.lines import TextLines, open_text, rows_of

Row = tuple[str, ...]  # a sentence in each language
BLOCK_ROWS = 10_000  # sorted by length together: many compared with a batch, few compared with memory


@dataclass(frozen=True)
class Columns:
    """A file and the languages of its columns."""

    path: Path
    languages: Sequence[str]

    def cells(self, line: str, lines: TextLines, number: int) -> Sequence[str]:
        """The sentences of a line; columns behind those of the languages are left out.

        Raises ValueError that names the line if there are fewer.
        """
        if len(self.languages) == 1:
            return (line,)
        cells = line.split("\t")[: len(self.languages)]
        if len(cells) < len(self.languages):
            raise ValueError(
                f"{lines.place(number)}: expected columns for {', '.join(self.languages)} separated by tabs, found "
                f"{len(cells)}"
            )
        return cells


@dataclass(frozen=True)
class ParallelText:
    """Files whose lines translate each other; a row with an empty sentence is left out."""

    files: Sequence[Columns]

    @classmethod
    def of_flag(cls, flag: str, values: Sequence[str]) -> ParallelText:
        """The files that a flag names, `en=FILE` or `en,de=FILE`.

        Raises ValueError for other values, a repeated language, and fewer than two.
        """
        files = []
        for value in values:
            names, path = name_and_file(value)
            if not path or not all(names.split(",")):
                raise ValueError(f"--{flag} {value}: expected LANGUAGE=FILE, or LANGUAGE,LANGUAGE=FILE for a table")
            files.append(Columns(Path(path).expanduser(), names.split(",")))
        text = cls(files)
        if repeated := {name for name in text.languages if text.languages.count(name) > 1}:
            raise ValueError(f"--{flag}: {sorted(repeated)[0]} is there twice; expected each language once")
        if len(text.languages) < 2:
            raise ValueError(f"--{flag}: expected two languages or more, found only {text.languages[0]}")
        return text

    @property
    def languages(self) -> list[str]:
        return [language for file in self.files for language in file.languages]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All pairs of languages, each once."""
        return list(itertools.combinations(self.languages, 2))

    @property
    def paths(self) -> list[Path]:
        return [file.path for file in self.files]

    def all_rows(self) -> Iterator[Row]:
        """All rows, also incomplete ones.

        Raises ValueError that names the line for one without a column, and for files of different lengths.
        """
        with ExitStack() as stack:
            opened = [stack.enter_context(open_text(path, is_prose=True)) for path in self.paths]
            for number, lines in enumerate(rows_of(opened), start=1):
                places = zip(self.files, lines, opened, strict=True)
                yield tuple(cell.strip() for file, line, own in places for cell in file.cells(line, own, number))

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """The number of the line, from 1, and the sentences of each row that has all languages."""
        return ((number, row) for number, row in enumerate(self.all_rows(), start=1) if all(row))

    def check(self) -> int:
        """The number of rows; all lines are read, and how many are left out is reported.

        Raises ValueError as reading does, for what can be read only once, and for fewer than two rows, which are
        compared with each other.
        """
        for path in self.paths:
            check_can_be_read_again(str(path))
        num_rows = num_left_out = 0
        for row in self.all_rows():
            num_rows += all(row)
            num_left_out += not all(row)
        if num_rows < 2:
            raise ValueError(
                f"{self.paths[0]}: expected two lines or more with a sentence in each language, found {num_rows}"
            )
        if num_left_out:
            sys.stderr.write(f"{num_left_out:,} lines left out, without a sentence in each language\n")
        return num_rows

    def blocks(self, chosen: Iterable[bool] | None = None) -> Iterator[list[Row]]:
        """The rows, BLOCK_ROWS at a time; with a truth value for each, those `chosen`."""
        rows: Iterable[Row] = (row for _, row in self)
        rows = iter(rows if chosen is None else itertools.compress(rows, chosen))
        while block := list(itertools.islice(rows, BLOCK_ROWS)):
            yield block


def drawn_rows(num_rows: int, num_drawn: int, seed: int) -> np.ndarray:
    """Which of all rows are drawn at random, bool (rows,); all if there are no more than `num_drawn`."""
    is_drawn = np.zeros(num_rows, dtype=bool)
    is_drawn[np.random.default_rng(seed).permutation(num_rows)[:num_drawn]] = True
    return is_drawn
