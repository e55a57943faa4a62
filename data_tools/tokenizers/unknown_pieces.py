"""Unknown pieces: the identity of the text they stand for, and how much text is lost to them.

The unknown id stands for any text for which the tokenizer has no piece. So while a data directory is being made, each
shard with unknown pieces has a third file, `PREFIX.unknown`: one RECORD for each unknown id of the shard, in order.
`text` is a hash of the normalised sentence of the piece, used instead of the id wherever ids are compared. `characters`
is the number of unknown characters of the sentence, with its first unknown piece, and 0 with the others, so that they
can be summed. (The text of each piece would do too, but SentencePiece needs three times the time of encoding for it.)
"""

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from data_tools.files.atomic import atomic_path, named_errors
from data_tools.files.memory_maps import map_file

RECORD = np.dtype([("text", "<u8"), ("characters", "<u4")])
NO_RECORDS = np.zeros(0, RECORD)
HASH_BYTES = 8


def records_of_lines(
    ids: np.ndarray,
    lengths: np.ndarray,
    is_unknown: np.ndarray,
    num_characters: np.ndarray,
    normalized: Callable[[list[int]], tuple[list[str], np.ndarray]],
) -> np.ndarray:
    """RECORD (m,) of the unknown ids, in order, of lines given by their ids end to end and their lengths.

    `is_unknown` (n,) says which ids they are, `num_characters` (vocabulary,) how many characters each id covers.
    `normalized` gives the normalised text of the lines of some numbers, and how many characters each has; it is asked
    only for lines with an unknown piece. Their characters that no known piece covers are unknown.
    """
    (places,) = np.nonzero(is_unknown)
    if len(places) == 0:
        return NO_RECORDS
    ends = np.cumsum(lengths)
    rows, firsts, counts = np.unique(np.searchsorted(ends, places, side="right"), return_index=True, return_counts=True)
    texts, of_texts = normalized(rows.tolist())
    known_before = np.concatenate([[0], np.cumsum(num_characters[ids], dtype=np.int64)])
    num_known = known_before[ends[rows]] - known_before[ends[rows] - lengths[rows]]
    records = np.repeat(records_of(texts), counts)
    records["characters"][firsts] = np.maximum(of_texts - num_known, 0)
    return records


def records_of(texts: list[str]) -> np.ndarray:
    """RECORD (n,) of one unknown piece in each of n normalised texts, with 0 characters."""
    records = np.zeros(len(texts), RECORD)
    digests = (hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).digest() for text in texts)
    records["text"] = np.frombuffer(b"".join(digests), "<u8")
    return records


def records_path(prefix: Path) -> Path:
    """The path of a shard's records; a shard without unknown pieces has no such file."""
    return prefix.with_name(f"{prefix.name}.unknown")


def load_records(prefix: Path) -> np.ndarray:
    """Read RECORD (n,) of the shard with this prefix."""
    path = records_path(prefix)
    return map_file(path, RECORD) if path.exists() else NO_RECORDS


class RecordWriter:
    """Writes the records of one shard, whole or not at all; used as a context manager. Without records, no file."""

    def __init__(self, prefix: Path) -> None:
        self._path = records_path(prefix)
        self._stack = ExitStack()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def add(self, records: np.ndarray) -> None:
        """Append RECORD (n,)."""
        if len(records) == 0:
            return
        if self._file is None:
            with ExitStack() as stack:
                temporary = stack.enter_context(atomic_path(self._path))
                self._file = stack.enter_context(open(temporary, "wb"))
                self._stack = stack.pop_all()
        with named_errors(self._path):
            self._file.write(records.tobytes())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


@dataclass(frozen=True)
class Unknown:
    """The number of unknown pieces of a text, of all its pieces, and the same for the characters they cover.

    Characters are those of the normalised text without white space.
    """

    pieces: int = 0
    of_pieces: int = 0
    characters: int = 0
    of_characters: int = 0

    def __add__(self, other: "Unknown") -> "Unknown":
        return Unknown(
            self.pieces + other.pieces,
            self.of_pieces + other.of_pieces,
            self.characters + other.characters,
            self.of_characters + other.of_characters,
        )

    @property
    def piece_share(self) -> float:
        return self.pieces / max(self.of_pieces, 1)

    @property
    def character_share(self) -> float:
        return self.characters / max(self.of_characters, 1)
