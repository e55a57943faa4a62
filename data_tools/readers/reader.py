"""Reading an input of any format: `InputReader`, and the facts about an input that a plan needs beforehand."""

from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from data_tools.corpus.inputs import Input, Part
from data_tools.readers.delimited import CsvSource, TsvSource
from data_tools.readers.hub import HubSource
from data_tools.readers.jsonl import JsonlSource
from data_tools.readers.opus import OpusSource
from data_tools.readers.parquet import ParquetSource
from data_tools.readers.source import Source
from data_tools.readers.text import MosesSource, TextSource
from data_tools.readers.tmx import TmxSource

SOURCES: dict[str, type[Source]] = {
    "csv": CsvSource,
    "hub": HubSource,
    "jsonl": JsonlSource,
    "moses": MosesSource,
    "opus": OpusSource,
    "parquet": ParquetSource,
    "text": TextSource,
    "tmx": TmxSource,
    "tsv": TsvSource,
}


def parts_of(item: Input, max_bytes: int) -> list[Part | None]:
    """Cut an input into parts of at most `max_bytes`, in the order of the text; [None] if it cannot be cut.

    The parts depend only on the sizes of its files. Raises the errors of opening them, see `InputReader`.
    """
    return SOURCES[item.format].parts_of(item, max_bytes)


def identity_of(item: Input) -> list[str | int]:
    """Values that identify the content of an input: if the content changes, they do.

    For a file its name, size and SHA-256; instead of that the modification time if it is large, and the version that
    the server gives if it is remote. For a data set on the hub its name, configuration, split and revision. Also the
    codes of the languages in the files, if given.
    """
    return [*SOURCES[item.format].identity_of(item), *item.codes]


def size_of(item: Input) -> int:
    """The size of an input in bytes as stored, 0 if it is not known."""
    return SOURCES[item.format].size_of(item)


class InputReader:
    """The documents or pairs of an input, or of a part of it (see `parts_of`); a context manager.

    `dropped` counts what the reader itself drops: `missing_side` for a pair with one side only, `empty` for a text of
    white space or a blank row of a table, `invalid_character` for a TMX unit with a character that XML forbids,
    `empty_file` for a file of 0 bytes. Blank lines between texts are not counted. Raises, on entry or while reading, a
    ValueError with one line that names the file, and the line with wrong content; OSError for a file that cannot be
    opened.
    """

    def __init__(self, item: Input, part: Part | None) -> None:
        self.item = item
        self.part = part
        self.dropped: Counter[str] = Counter()
        self._source: Source | None = None

    def __enter__(self) -> Self:
        self._source = SOURCES[self.item.format](self.item, self.part)
        self.dropped = self._source.dropped
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    @property
    def num_bytes_read(self) -> int:
        """The progress in bytes; at the end about `size_of`, or the size of the part."""
        return self._opened.num_bytes_read

    def documents(self) -> Iterator[list[str]]:
        """The non-blank lines of each document, as they are in the file; no document is empty.

        Documents of more than MAX_DOCUMENT_CHARACTERS are cut between two lines.
        """
        return self._opened.documents()

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The two sides of each pair, as they are in the file; a side may be blank."""
        return self._opened.pairs()

    @property
    def _opened(self) -> Source:
        assert self._source is not None, "read inside `with InputReader(…) as reader:`"
        return self._source
