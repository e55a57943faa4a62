"""Unknown pieces: what text lies under them, and how much of a text is lost to them.

An unknown id identifies nothing, for it stands for any text that the tokenizer has no piece for. So as long as a data
directory is being made, each shard that holds unknown pieces has a third file, `PREFIX.unknown`: one RECORD for each
unknown id of the shard, in order. `text` is a hash of the normalised sentence that the piece is in: whatever compares
ids takes it in place of the id. `characters`, given with the first unknown piece of a sentence and 0 with the others,
is how many characters of the sentence are unknown: whatever counts what is lost adds them up. (The text under each
piece would do too, but SentencePiece tells it at three times the cost of encoding.)
"""

import hashlib
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


def records_of(texts: list[str]) -> np.ndarray:
    """RECORD (n,) of unknown pieces in n normalised texts, without characters."""
    records = np.zeros(len(texts), RECORD)
    digests = (hashlib.blake2b(text.encode(), digest_size=HASH_BYTES).digest() for text in texts)
    records["text"] = np.frombuffer(b"".join(digests), "<u8")
    return records


def records_path(prefix: Path) -> Path:
    """The file of a shard's records; there is none if the shard has no unknown piece."""
    return prefix.with_name(f"{prefix.name}.unknown")


def load_records(prefix: Path) -> np.ndarray:
    """RECORD (n,) of the shard with that prefix."""
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
    """How many pieces of a text are unknown to the tokenizer, and how many characters lie under them.

    Characters are those of the normalised text but for white space.
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


@dataclass(frozen=True)
class PieceTable:
    """What counting needs to know of a vocabulary.

    `starts_word` bool (vocabulary,): true for pieces that begin with `▁`, of which a text has as many as words.
    `num_characters` uint16 (vocabulary,): those of each piece, the `▁` left out; 0 for special ids.
    """

    starts_word: np.ndarray
    num_characters: np.ndarray

    @property
    def vocab_size(self) -> int:
        return len(self.starts_word)

    def num_words(self, ids: np.ndarray) -> int:
        """The words that begin in ids (n,)."""
        return int(np.count_nonzero(self.starts_word[ids]))

    def unknown(self, ids: np.ndarray, records: np.ndarray) -> Unknown:
        """What is unknown in ids (n,), given the RECORD (m,) of the unknown ones among them."""
        known = int(self.num_characters[ids].sum(dtype=np.int64))
        unknown = int(records["characters"].sum(dtype=np.int64))
        return Unknown(len(records), len(ids), unknown, known + unknown)
