"""What word lists have in common: pairs of terms, read from lines of which broken ones are counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_tools.files.compression import damage_named, decompressed
from data_tools.files.locations import open_binary

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Entries:
    """Pairs of terms in the order of their file; `num_broken` of its lines were skipped."""

    pairs: tuple[tuple[str, str], ...]
    num_broken: int


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file, which may be compressed, without line ends and byte order mark.

    They are bytes, so that one line in another encoding costs that line alone. Raises ValueError for a file that is
    not there, is a directory, or is damaged.
    """
    name = str(path)
    if not path.exists():
        raise ValueError(f"{name}: no such file")
    with damage_named(name), open_binary(name) as raw:
        for number, line in enumerate(decompressed(name, raw)):
            yield (line.removeprefix(BYTE_ORDER_MARK) if number == 0 else line).rstrip(b"\r\n")
