"""Thesauri in MyThes' format, as LibreOffice's: an encoding, then for each entry its meanings with their synonyms.

    UTF-8
    krater|1
    -|Krater|Trichter|Kessel (ugs.)

The entry's line says how many lines follow it, one for each meaning; the first field of these is a part of speech.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from data_tools.lexicons.entries import Entries, lines_of

ENTRY = re.compile(r"([^|]+)\|(\d+)\s*")
NOTE = re.compile(r"\(([^()]*)\)")
# Notes on terms, or in place of a part of speech, by which thesauri of de, en and ru mark what is no synonym.
OTHER_RELATIONS = frozenset(
    {"antonym", "generic term", "related term", "Oberbegriff", "Unterbegriff", "антоним", "связанный термин"}
)
MEANING_BEGINS = ("(", "-")  # a part of speech in brackets, or none


def read_thesaurus(path: Path) -> Entries:
    """(entry, synonym) of each synonym in a MyThes file, which may be compressed.

    The first line names the encoding; without it, as in the second part of a file that was cut, it is UTF-8. Notes in
    brackets are removed. Opposites and broader terms, so marked, are left out. Lines that are not of the format are
    counted as broken. Raises ValueError for a file that is not there, and for one without any good line.
    """
    lines = lines_of(path)
    first = next(lines, b"")
    encoding = encoding_named(first)
    if encoding is None:
        lines, encoding = chain([first], lines), "utf-8"
    pairs: list[tuple[str, str]] = []
    num_broken = remaining = 0
    entry = ""
    for line in decoded(lines, encoding):
        match = ENTRY.fullmatch(line)
        if match and (remaining == 0 or not line.startswith(MEANING_BEGINS)):
            num_broken += remaining > 0  # the entry before said that it had more
            entry, remaining = plain(match[1]), int(match[2])
        elif remaining and "|" in line:
            pairs += [(entry, synonym) for synonym in synonyms_of(line) if synonym != entry]
            remaining -= 1
        elif line.strip():
            num_broken += 1
            remaining = max(0, remaining - 1)
    num_broken += remaining > 0
    if not pairs:
        raise ValueError(f"{path}: expected a thesaurus in MyThes' format (ENTRY|1, then PART OF SPEECH|SYNONYM|…)")
    return Entries(tuple(pairs), num_broken)


def encoding_named(line: bytes) -> str | None:
    """The encoding that a thesaurus' first line names, None if it names none."""
    try:
        name = codecs.lookup(line.decode("ascii").strip().removeprefix("microsoft-")).name
        "a".encode(name)  # some are none of text, such as hex
        return name
    except (LookupError, UnicodeDecodeError, ValueError):
        return None


def decoded(lines: Iterator[bytes], encoding: str) -> Iterator[str]:
    """The lines as text; one that is not in the encoding is a line without fields, and so broken."""
    for line in lines:
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError:
            yield "�"


def synonyms_of(line: str) -> list[str]:
    """The synonyms in a meaning's line."""
    part_of_speech, *terms = line.split("|")
    if OTHER_RELATIONS.intersection(NOTE.findall(part_of_speech)):
        return []
    terms = [term for term in terms if "(" not in term or not OTHER_RELATIONS.intersection(NOTE.findall(term))]
    return [term for term in map(plain, terms) if term]


def plain(term: str) -> str:
    """A term without notes in brackets, and with single spaces."""
    return " ".join((NOTE.sub(" ", term) if "(" in term else term).split())
