"""Sentences to read, alone or with their translations: those of files, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analysis.aligning.pairs import WORD, PairFiles
from analysis.states import Words
from data_tools.files.locations import check_can_be_read_again
from data_tools.text.lines import open_text

Texts = tuple[Words, Words | None]  # a sentence and, if there is one, its translation


def words_of(text: str) -> list[str]:
    """The words of a tokenised sentence."""
    return WORD.findall(text)


@dataclass(frozen=True)
class TextFiles:
    """A file of tokenised sentences and, if there is one, another of their translations."""

    source: Path
    target: Path | None

    @property
    def paths(self) -> list[Path]:
        return [self.source] if self.target is None else [self.source, self.target]

    def __iter__(self) -> Iterator[Texts]:
        """All sentences. Raises ValueError for files of unequal length."""
        if self.target is not None:
            for pair in PairFiles(self.paths, None, None, first_index=0):
                yield pair.source, pair.target
            return
        with open_text(self.source, is_prose=True) as lines:
            for line in lines:
                yield words_of(line), None

    def check(self) -> int:
        """Read all sentences: their number.

        Raises ValueError as reading does, for what can be read only once, and if none has a word.
        """
        for path in self.paths:
            check_can_be_read_again(str(path))
        num_texts = num_filled = 0
        for source, _ in self:
            num_texts += 1
            num_filled += bool(source)
        if not num_filled:
            raise ValueError(f"{self.source}: no line has a word; expected a sentence a line")
        return num_texts
