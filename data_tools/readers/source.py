"""The base class of the readers of all formats."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator

from data_tools.corpus.inputs import Input, Part
from data_tools.files.locations import identity_of_file, size_of_file

# Longer documents are cut to limit memory: without blank lines a whole file is one document.
MAX_DOCUMENT_CHARACTERS = 1 << 20
MAX_LISTED = 20  # names in an error message


class Source(ABC):
    """One input, or a part of it, being read; `dropped` counts the units that it drops, by reason.

    A format implements `documents` if it can hold one language, `pairs` if it can hold two. The constructor opens the
    files, `close` closes them.
    """

    def __init__(self, item: Input, part: Part | None) -> None:
        self.item = item
        self.part = part
        self.dropped: Counter[str] = Counter()

    @classmethod
    def parts_of(cls, item: Input, max_bytes: int) -> list[Part | None]:
        """Cut an input into parts of about `max_bytes`; [None] is the whole."""
        return [None]

    @classmethod
    def identity_of(cls, item: Input) -> list[str | int]:
        """Values that identify the content of an input."""
        return [value for path in item.paths for value in identity_of_file(path)]

    @classmethod
    def size_of(cls, item: Input) -> int:
        """The size of an input in bytes as stored, 0 if it is not known."""
        return sum(map(size_of_file, item.paths))

    @property
    @abstractmethod
    def num_bytes_read(self) -> int:
        """The progress in bytes, comparable with `size_of`."""

    @abstractmethod
    def close(self) -> None:
        """Close all files."""

    def documents(self) -> Iterator[list[str]]:
        """The non-blank lines of each document, as they are in the source."""
        raise AssertionError(f"{self.item}: {self.item.format} holds pairs")

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The two sides of each pair, as they are in the source; a side may be blank."""
        raise AssertionError(f"{self.item}: {self.item.format} holds one language")


def documents_of(text: str) -> list[list[str]]:
    """The non-blank lines of a text as one document; no document if all are blank, several if it must be cut."""
    lines = text.split("\n")
    if "\r" in text:
        lines = [line.removesuffix("\r") for line in lines]
    lines = [line for line in lines if line and not line.isspace()]
    if len(text) <= MAX_DOCUMENT_CHARACTERS:
        return [lines] if lines else []
    documents: list[list[str]] = []
    size = 0
    for line in lines:
        size += len(line)
        if size > MAX_DOCUMENT_CHARACTERS or not documents:
            documents.append([])
            size = len(line)
        documents[-1].append(line)
    return documents


def listed(names: Iterable[str]) -> str:
    """The first MAX_LISTED names, separated by commas, for an error message."""
    names = list(names)
    return ", ".join(names[:MAX_LISTED]) + (", …" if len(names) > MAX_LISTED else "") or "nothing"
