"""One source of text, whatever its format: `InputReader`, and what a plan needs to know about it before."""

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
    """How an input is cut into tasks: parts of at most `max_bytes` in the order of the text, [None] where it cannot be.

    The parts depend on the sizes of its files alone. Raises what looking at the files raises, see `InputReader`.
    """
    return SOURCES[item.format].parts_of(item, max_bytes)


def identity_of(item: Input) -> list[str | int]:
    """What stands for the content of an input: other content, other values.

    For a file its name, size and SHA-256, or if it is large the time of its last change, or if it is remote what its
    server says about its version. For a data set of the hub its name, configuration, split and revision. And what the
    languages are called in it, if that is another name than the corpus has.
    """
    return [*SOURCES[item.format].identity_of(item), *item.codes]


def size_of(item: Input) -> int:
    """The bytes of an input as it is stored, 0 where that is not known."""
    return SOURCES[item.format].size_of(item)


class InputReader:
    """The documents or pairs of an input, or of a part of it (see `parts_of`); a context manager.

    `dropped` counts what the reader itself leaves out: `missing_side` for a pair with one side only, `empty` for a text
    of white space and a blank row of a table, `invalid_character` for a unit of TMX with one that XML does not allow,
    `empty_file` for a file without a byte. Blank lines between texts are no units. Raises, when entered or while
    reading, ValueError with one line that names the file, and the line for wrong content; OSError for a file that
    cannot be opened.
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
        """How far reading has come; at the end about `size_of`, or what the part has of it."""
        return self._opened.num_bytes_read

    def documents(self) -> Iterator[list[str]]:
        """The non-blank lines of each document, as they stand in the file; not one document is empty.

        One of more than MAX_DOCUMENT_CHARACTERS is cut between two lines.
        """
        return self._opened.documents()

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The two sides of each pair, as they stand in the file; a side may be blank."""
        return self._opened.pairs()

    @property
    def _opened(self) -> Source:
        assert self._source is not None, "read within `with InputReader(…) as reader:`"
        return self._source
