"""Shares of digits, punctuation, URLs and scripts in lines of text, for a million characters at once.

The code points of many lines are end to end in one array, and a table gives the class of each code point. Tables are
made on first use (0.2 s for the general categories, 5 ms for scripts) and cached.
"""

import re
import sys
import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
from fontTools.unicodedata import Scripts

NUM_CODE_POINTS = sys.maxunicode + 1
OTHER, SPACE, DIGIT, PUNCTUATION = range(4)
NO_SCRIPT, FOREIGN_SCRIPT, OWN_SCRIPT = range(3)
# Spaces by str.isspace() that are not of the categories Z*.
CONTROL_SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85"
# Characters that are no evidence for any script: shared by several, taken from the character before, unassigned.
SCRIPTLESS = ("Zyyy", "Zinh", "Zzzz")
# ASCII only: in text without spaces (Chinese, Thai) a URL is not separated from the text around it. The last character
# must not be a full stop or bracket of the sentence.
URL = re.compile(r"\b(?:https?://|ftp://|www\.)[!-~]*[0-9A-Za-z/]", re.ASCII | re.IGNORECASE)


def digit_shares(lines: list[str]) -> np.ndarray:
    """For each line (n,) the share of its non-space characters that are decimal digits of any script."""
    return _class_shares(lines, DIGIT)


def punctuation_shares(lines: list[str]) -> np.ndarray:
    """For each line (n,) the share of its non-space characters that are punctuation or symbols (P*, S*)."""
    return _class_shares(lines, PUNCTUATION)


def url_shares(lines: list[str]) -> np.ndarray:
    """For each line (n,) the share of its non-space characters that are part of a URL."""
    codes, ends = code_points(lines)
    (num_spaces,) = _counts(_class_table().take(codes), ends, SPACE)
    # The line ends separate URLs of different lines.
    spans = [match.span() for match in URL.finditer("\n".join(lines))]
    starts, stops = np.array(spans, dtype=np.int64).reshape(-1, 2).T
    line_ends = ends + np.arange(1, len(lines) + 1)
    url_lengths = np.bincount(np.searchsorted(line_ends, starts, side="right"), stops - starts, minlength=len(lines))
    return _shares(url_lengths, np.diff(ends, prepend=0) - num_spaces)


def script_shares(lines: list[str], scripts: frozenset[str]) -> np.ndarray:
    """For each line (n,) the share of its characters with a script whose script is in `scripts`; 1 if there are none.

    Scripts are Unicode's, by ISO 15924 codes. Digits, punctuation and other characters shared by several scripts
    (Common, Inherited) have no script.
    """
    codes, ends = code_points(lines)
    num_own, num_foreign = _counts(_script_table(scripts).take(codes), ends, OWN_SCRIPT, FOREIGN_SCRIPT)
    totals = num_own + num_foreign
    return np.where(totals > 0, _shares(num_own, totals), 1.0)


def code_points(lines: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(codes, ends): the code points (c,) of all lines end to end, and the int64 end (n,) of each line.

    Surrogates, which may come from JSON, are code points like any other.
    """
    codes = np.frombuffer("".join(lines).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return codes, np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)))


def _class_shares(lines: list[str], character_class: int) -> np.ndarray:
    codes, ends = code_points(lines)
    num_spaces, num_wanted = _counts(_class_table().take(codes), ends, SPACE, character_class)
    return _shares(num_wanted, np.diff(ends, prepend=0) - num_spaces)


def _shares(parts: np.ndarray, wholes: np.ndarray) -> np.ndarray:
    return parts / np.maximum(wholes, 1)


def _counts(classes: np.ndarray, ends: np.ndarray, *wanted: int) -> list[np.ndarray]:
    """The number of characters of each wanted class in each line (n,), given the class (c,) of each character."""
    lengths = np.diff(ends, prepend=0)
    is_filled = lengths > 0  # for an empty line reduceat would return the first character of the next
    starts = (ends - lengths)[is_filled]
    counts = np.zeros((len(wanted), len(ends)), dtype=np.int64)
    for row, character_class in zip(counts, wanted, strict=True):
        row[is_filled] = np.add.reduceat(classes == character_class, starts, dtype=np.int32)
    return list(counts)


@cache
def _class_table() -> np.ndarray:
    """OTHER, SPACE, DIGIT or PUNCTUATION for each code point."""
    categories = "".join(map(unicodedata.category, map(chr, range(NUM_CODE_POINTS))))
    major, minor = np.frombuffer(categories.encode("ascii"), dtype="S1").reshape(-1, 2).T
    table = np.full(NUM_CODE_POINTS, OTHER, dtype=np.uint8)
    table[np.isin(major, [b"P", b"S"])] = PUNCTUATION
    table[(major == b"N") & (minor == b"d")] = DIGIT
    table[major == b"Z"] = SPACE
    table[list(map(ord, CONTROL_SPACES))] = SPACE
    return table


@cache
def _script_table(scripts: frozenset[str]) -> np.ndarray:
    """NO_SCRIPT, FOREIGN_SCRIPT or OWN_SCRIPT (one of `scripts`) for each code point."""
    class_of = dict.fromkeys(Scripts.VALUES, FOREIGN_SCRIPT)
    class_of |= dict.fromkeys(scripts, OWN_SCRIPT)
    class_of |= dict.fromkeys(SCRIPTLESS, NO_SCRIPT)
    classes = np.array([class_of[script] for script in Scripts.VALUES], dtype=np.uint8)
    return np.repeat(classes, np.diff(Scripts.RANGES, append=NUM_CODE_POINTS))


def refuse_surrogates(lines: Sequence[str]) -> None:
    """Raise ValueError if a line has half of a surrogate pair, which Python's strings may hold but text may not."""
    for number, line in enumerate(lines, start=1):
        try:
            line.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(
                f"line {number} of {len(lines)}: character {error.start + 1} is half of a surrogate pair "
                f"(U+{ord(line[error.start]):04X}), which is not valid text; repair the source of the text"
            ) from None
