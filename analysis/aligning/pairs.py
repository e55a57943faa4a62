"""Pairs of tokenised sentences with gold links, read from files line by line.

Gold links are in Pharaoh's format, `0-0 1-2 3p4`, where p instead of - marks a possible link that is not sure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from analysis.aligning.scores import Gold, Link
from data_tools.cli import warn
from data_tools.files.locations import check_can_be_read_again
from data_tools.text.lines import TextLines, open_text, rows_of

WORD = re.compile(r"[^ \t]+")  # a no-break space may be within a word: gold links do not count it as a border
LINK = re.compile(r"(\d+)([-p])(\d+)")
EXCERPT = 60  # characters of a wrong line in a message


@dataclass(frozen=True)
class Pair:
    """The words of two sentences, and their gold links if there are any."""

    source: Sequence[str]
    target: Sequence[str]
    gold: Gold | None


@dataclass(frozen=True)
class PairFiles:
    """Files of pairs: one of `source TAB target TAB links` without or with links, or one for each of these.

    `possible` has the links that may be found, also the sure ones. Numbers in files of links start from `first_index`.
    """

    paths: Sequence[Path]  # one of rows, or one of sources and one of targets
    gold: Path | None
    possible: Path | None
    first_index: int

    @property
    def all_paths(self) -> list[Path]:
        return [*self.paths, *(path for path in (self.gold, self.possible) if path is not None)]

    def __iter__(self) -> Iterator[Pair]:
        """All pairs. Raises ValueError that names the line for what is not a pair, or a link of no words."""
        with ExitStack() as stack:
            files = [stack.enter_context(open_text(path, is_prose=True)) for path in self.all_paths]
            for number, lines in enumerate(rows_of(files), start=1):
                yield self._pair_of(lines, files, number)

    def check(self) -> tuple[int, bool]:
        """Read all pairs: their number, and whether they have gold links; warn where these may count from 1.

        Raises ValueError as reading does, for what can be read only once, for files without pairs, and for rows of
        which only some have links.
        """
        for path in self.all_paths:
            check_can_be_read_again(str(path))
        num_pairs = num_with_gold = 0
        lowest_index = 1
        for pair in self:
            num_pairs += 1
            if pair.gold is not None:
                num_with_gold += 1
                lowest_index = min(lowest_index, *(min(link) for link in pair.gold.possible), 1)
        if not num_pairs:
            raise ValueError(f"{self.paths[0]}: empty; expected a pair of sentences a line")
        if num_with_gold not in (0, num_pairs):
            raise ValueError(
                f"{self.paths[0]}: {num_with_gold:,} of {num_pairs:,} rows have links; expected all or none"
            )
        if num_with_gold and lowest_index > 0 and not self.first_index:
            warn(f"{self.gold or self.paths[0]}: no link has a 0; if the file counts from 1, give --first-index 1")
        return num_pairs, num_with_gold > 0

    def _pair_of(self, lines: Sequence[str], files: Sequence[TextLines], number: int) -> Pair:
        if len(self.paths) == 2:
            texts, links = lines[:2], list(zip(lines[2:], files[2:], strict=True))
        else:
            texts = lines[0].split("\t")
            if not 2 <= len(texts) <= 3:
                found = lines[0] if len(lines[0]) <= EXCERPT else f"{lines[0][:EXCERPT]}…"
                raise ValueError(
                    f"{files[0].place(number)}: expected `source TAB target TAB links`, found {len(texts)} columns: "
                    f"{found!r}"
                )
            links = [(column, files[0]) for column in texts[2:]]
        source, target = (WORD.findall(text) for text in texts[:2])
        if not links:
            return Pair(source, target, None)
        read = [
            links_of_line(line, (len(source), len(target)), self.first_index, file.place(number))
            for line, file in links
        ]
        sure, possible = read[0][0], read[0][0] | read[0][1]
        for others in read[1:]:
            possible |= others[0] | others[1]
        return Pair(source, target, Gold(frozenset(sure), frozenset(possible)))


def links_of_line(line: str, sizes: tuple[int, int], first_index: int, where: str) -> tuple[set[Link], set[Link]]:
    """(sure, other possible) links of a line, counted from 0; `sizes` are the numbers of source and target words.

    Raises ValueError for anything else, and for a link of a word that a sentence does not have.
    """
    sure: set[Link] = set()
    possible: set[Link] = set()
    for text in line.split():
        match = LINK.fullmatch(text)
        if match is None:
            raise ValueError(f"{where}: expected links such as 0-0 1-2 or, possible, 3p4, found {text!r}")
        link = int(match[1]) - first_index, int(match[3]) - first_index
        if any(index not in range(size) for index, size in zip(link, sizes, strict=True)):
            raise ValueError(f"{where}: {problem_of(text, link, sizes, first_index)}")
        (sure if match[2] == "-" else possible).add(link)
    return sure, possible


def problem_of(text: str, link: Link, sizes: tuple[int, int], first_index: int) -> str:
    """What is wrong with a link outside its sentences, and the flag that may be missing."""
    if min(link) < 0:
        return f"link {text} has a 0, but links count from 1; if this file counts from 0, give --first-index 0"
    side = 0 if link[0] >= sizes[0] else 1
    name, size = ("source", "target")[side], sizes[side]
    last = size - 1 + first_index
    advice = "; if this file counts from 1, give --first-index 1" if link[side] == size and not first_index else ""
    return f"link {text} is of no word: the {name} has {size:,} words, {first_index} to {last}{advice}"
