"""Cutting text without documents into passages, after lines chosen by a hash of their content.

So the borders stay when text is added before or after, which would shift borders at fixed distances.
"""

import zlib

PASSAGE_LINES = 32  # on average


def ends_passage(line: bytes) -> bool:
    """Whether a line, in UTF-8 and without its line end, is the last of a passage."""
    return zlib.crc32(line) % PASSAGE_LINES == 0


def passage_ends(lines: list[str]) -> list[int]:
    """The ends of the passages, counted in lines; the last is the number of lines."""
    ends = [number for number, line in enumerate(lines, start=1) if ends_passage(line.encode())]
    return ends if ends and ends[-1] == len(lines) else [*ends, len(lines)]
