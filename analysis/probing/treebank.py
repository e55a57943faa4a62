"""Dependency trees from CoNLL-U files: words, tags, and the distances and depths of words in their trees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from data_tools.text.lines import open_text
from finetune.understanding.readers.conll import sentences_of
from finetune.understanding.tasks.task import FileKind, Format

# CoNLL-U's columns that are read; lines of multi-word tokens (`1-2`) and of empty nodes (`1.1`) are no words.
ID, FORM, UPOS, XPOS, HEAD = 0, 1, 3, 4, 6
NUM_COLUMNS = 10
FILE = Format(kind=FileKind.CONLL, columns={"word": (FORM,)}, comments=True, more_columns=True)
ROOT = -1  # the head of a root
# Penn Treebank's tags of what Hewitt and Manning (2019) leave out of spanning trees.
XPOS_PUNCTUATION = frozenset(("''", ",", ".", ":", "``", "-LRB-", "-RRB-"))


class Punctuation(StrEnum):
    """By which tag a word is punctuation: UD's in any language, or Penn Treebank's in English, as was published."""

    UPOS = "upos"
    XPOS = "xpos"


@dataclass(frozen=True)
class Tree:
    """The words of a sentence with their tags and heads, int64 (words,) from 0, ROOT for the root's."""

    words: Sequence[str]
    upos: Sequence[str]
    xpos: Sequence[str]
    heads: np.ndarray

    def __len__(self) -> int:
        return len(self.words)

    def is_kept(self, by: Punctuation) -> np.ndarray:
        """bool (words,): what is no punctuation."""
        if by is Punctuation.UPOS:
            return np.array([tag != "PUNCT" for tag in self.upos])
        return np.array([tag not in XPOS_PUNCTUATION for tag in self.xpos])

    def ancestors(self) -> np.ndarray:
        """bool (words, words): whether word j is word i or above it. Raises ValueError for heads in a circle."""
        found = np.eye(len(self), dtype=bool)
        above = self.heads.copy()
        for _ in range(len(self)):
            below = np.flatnonzero(above != ROOT)
            if not len(below):
                return found
            found[below, above[below]] = True
            above[below] = self.heads[above[below]]
        raise ValueError("its heads form a circle")

    def depths(self) -> np.ndarray:
        """int64 (words,): edges from the root."""
        return self.ancestors().sum(axis=1) - 1

    def distances(self) -> np.ndarray:
        """int64 (words, words): edges between words, by way of their lowest common ancestor."""
        ancestors = self.ancestors().astype(np.int64)
        num_above = ancestors.sum(axis=1)
        return num_above[:, None] + num_above - 2 * (ancestors @ ancestors.T)


def read_trees(path: Path) -> Iterator[Tree]:
    """The trees of a file. Raises ValueError that names the place of what is no tree, and for a file without any."""
    is_empty = True
    with open_text(path) as lines:
        for number, sentence in sentences_of(enumerate(lines, start=1), FILE, "\t", lines):
            is_empty = False
            try:
                yield tree_of([cells for cells in sentence.cells if is_word(cells)])
            except ValueError as error:
                raise ValueError(f"{lines.place(number)}: the sentence that ends here: {error}") from None
    if is_empty:
        raise ValueError(f"{path}: empty; expected sentences in CoNLL-U")


def is_word(cells: Sequence[str]) -> bool:
    """Whether a line is of a word of the tree. Raises ValueError for a line that is not CoNLL-U's."""
    if len(cells) != NUM_COLUMNS:
        raise ValueError(f"expected {NUM_COLUMNS} columns separated by tabs, found {len(cells)}")
    return cells[ID].isdigit()


def tree_of(rows: Sequence[Sequence[str]]) -> Tree:
    """The tree of the lines of words. Raises ValueError where numbers or heads do not make one tree."""
    if [row[ID] for row in rows] != [str(number) for number in range(1, len(rows) + 1)]:
        raise ValueError("expected words numbered from 1 in the first column")
    if wrong := [row[HEAD] for row in rows if not row[HEAD].isdigit() or int(row[HEAD]) > len(rows)]:
        raise ValueError(f"expected heads from 0 to {len(rows)} in column 7, found {wrong[0]!r}")
    heads = np.array([int(row[HEAD]) - 1 for row in rows], dtype=np.int64)
    if (num_roots := int((heads == ROOT).sum())) != 1:
        raise ValueError(f"expected one word whose head is 0, found {num_roots}")
    tree = Tree([row[FORM] for row in rows], [row[UPOS] for row in rows], [row[XPOS] for row in rows], heads)
    tree.ancestors()
    return tree
