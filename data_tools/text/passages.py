"""Where text without documents is cut: after lines that their own content chooses.

So the borders stay where they are when text is put in front or behind, which would shift cuts at fixed distances.
"""

import zlib

PASSAGE_LINES = 32  # on average


def ends_passage(line: bytes) -> bool:
    """Whether a line, in UTF-8 and without its line end, is the last of a passage."""
    return zlib.crc32(line) % PASSAGE_LINES == 0


def passage_ends(lines: list[str]) -> list[int]:
    """After how many of these lines each passage ends; the last ends with them."""
    ends = [number for number, line in enumerate(lines, start=1) if ends_passage(line.encode())]
    return ends if ends and ends[-1] == len(lines) else [*ends, len(lines)]
