"""Plain text: one sentence per line, or two files whose i-th lines are a pair."""

from collections.abc import Iterator
from itertools import zip_longest

from data_tools.corpus.inputs import Input, Part
from data_tools.files.formats import NAME_AS_JSON
from data_tools.readers.file_parts import cut_file, find_border
from data_tools.readers.source import MAX_DOCUMENT_CHARACTERS, Source
from data_tools.text.lines import TextLines, open_text
from data_tools.text.passages import ends_passage


class LineSource(Source):
    """A source that is one text file, or a part of it: the lines that begin in [start, end)."""

    keeps_documents = False  # whether parts are cut between documents, or else between any two lines
    is_prose = False  # whether it is plain text, and so must not begin with JSON or markup

    def __init__(self, item: Input, part: Part | None) -> None:
        super().__init__(item, part)
        (path,) = item.paths
        start: int = 0
        end: int | None = None
        if part is not None:
            start, end = (find_border(path, offset, self.keeps_documents) for offset in part)
        self.lines = open_text(path, start, end, self.is_prose, NAME_AS_JSON)
        if part is None and self.lines.is_empty_file:
            self.dropped["empty_file"] += 1

    @classmethod
    def parts_of(cls, item: Input, max_bytes: int) -> list[Part | None]:
        (path,) = item.paths
        return cut_file(path, max_bytes)

    @property
    def num_bytes_read(self) -> int:
        return self.lines.num_bytes_read

    def close(self) -> None:
        self.lines.close()


class TextSource(LineSource):
    """Text with one sentence per line, and blank lines between documents."""

    keeps_documents = True
    is_prose = True

    def documents(self) -> Iterator[list[str]]:
        document: list[str] = []
        size = 0
        for line in self.lines:
            if line and not line.isspace():
                size += len(line)
                document.append(line)
                is_too_long = size > 2 * MAX_DOCUMENT_CHARACTERS
                if is_too_long or (size > MAX_DOCUMENT_CHARACTERS and ends_passage(line.encode())):
                    yield document
                    document, size = [], 0
            elif document:
                yield document
                document, size = [], 0
        if document:
            yield document


class MosesSource(Source):
    """Two text files whose i-th lines are a pair; raises ValueError with both numbers of lines if they differ.

    They are not cut into parts: where line i of a file begins can only be known by reading all that is before it.
    """

    def __init__(self, item: Input, part: Part | None) -> None:
        super().__init__(item, part)
        source, target = item.paths
        self.source = open_text(source, is_prose=True)
        try:
            self.target = open_text(target, is_prose=True)
        except BaseException:
            self.source.close()
            raise
        if self.source.is_empty_file and self.target.is_empty_file:
            self.dropped["empty_file"] += 1

    @property
    def num_bytes_read(self) -> int:
        return self.source.num_bytes_read + self.target.num_bytes_read

    def close(self) -> None:
        self.source.close()
        self.target.close()

    def pairs(self) -> Iterator[tuple[str, str]]:
        return line_pairs(self.source, self.target)


def line_pairs(source: TextLines, target: TextLines) -> Iterator[tuple[str, str]]:
    """The i-th lines of two texts as pairs; raises ValueError with both numbers of lines if they differ."""
    for num_pairs, (source_line, target_line) in enumerate(zip_longest(source, target)):
        if source_line is None or target_line is None:
            num_source = num_target = num_pairs
            if target_line is None:
                num_source += 1 + sum(1 for _ in source)
            else:
                num_target += 1 + sum(1 for _ in target)
            raise ValueError(
                f"{source.name} has {num_source:,} lines, {target.name} has {num_target:,}: "
                "the i-th lines of both are a pair, so their numbers must be equal"
            )
        yield source_line, target_line
