"""Bilingual lexicons: a word and a translation of it on each line."""

from __future__ import annotations

from pathlib import Path

from data_tools.lexicons.entries import Entries, lines_of


def read_lexicon(path: Path) -> Entries:
    """(word, translation) of each line of a file in UTF-8, which may be compressed.

    A tab separates the two. In a file of which most lines have no tab, such as MUSE's, it is a space, of which a line
    then has one: where a word ends is not known otherwise. Lines of another form are counted as broken, blank lines are
    not. Raises ValueError for a file that is not there, and for one without any good line.
    """
    rows: list[list[str]] = []
    num_lines = num_broken = 0
    lines = [line for line in lines_of(path) if line.strip()]
    separator = b"\t" if 2 * sum(b"\t" in line for line in lines) >= len(lines) else b" "
    for line in lines:
        num_lines += 1
        try:
            terms = [" ".join(term.decode().split()) for term in line.strip(b" ").split(separator)]
        except UnicodeDecodeError:
            terms = []
        if len(terms) == 2 and all(terms):
            rows.append(terms)
        else:
            num_broken += 1
    if not rows:
        found = f"found {num_lines:,} others" if num_lines else "found an empty file"
        raise ValueError(f"{path}: expected lines of WORD TAB TRANSLATION in UTF-8, {found}")
    return Entries(tuple((word, translation) for word, translation in rows), num_broken)
