"""Reading the text of one task: that of its inputs, one after the other."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeVar

from data_tools.cli import SeveralErrors, one_line
from data_tools.readers import InputReader
from data_tools.stages.plan import PlannedPart, PlannedTask
from data_tools.text.sentence_splitting import split_sentences

T = TypeVar("T")


class TaskReader:
    """The documents or pairs of all parts of a task; no document extends from one part to the next.

    `dropped` counts what the readers drop, `num_bytes_read` is the progress. If an input cannot be read, the others are
    still checked, so that all problems are reported at once: see `InputReader` for the errors.
    """

    def __init__(self, task: PlannedTask) -> None:
        self.task = task
        self.dropped: Counter[str] = Counter()
        self._num_bytes_before = 0
        self._reader: InputReader | None = None

    @property
    def num_bytes_read(self) -> int:
        return self._num_bytes_before + (self._reader.num_bytes_read if self._reader is not None else 0)

    def documents(self) -> Iterator[list[str]]:
        """The sentences of each document; running text, if declared as such, is split into sentences."""
        return self._units(_documents)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """The two sides of each pair, as they are in the file."""
        return self._units(lambda reader, part: reader.pairs())

    def _units(self, units_of: Callable[[InputReader, PlannedPart], Iterator[T]]) -> Iterator[T]:
        errors: list[ValueError | OSError] = []
        for part in self.task.parts:
            try:
                with InputReader(part.input, part.part) as reader:
                    self._reader = reader
                    for unit in units_of(reader, part):
                        if not errors:  # else only looking for more errors
                            yield unit
                    self.dropped.update(reader.dropped)
                    self._num_bytes_before += reader.num_bytes_read
            except (ValueError, OSError) as error:
                errors.append(error)
            self._reader = None
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise SeveralErrors([one_line(error) for error in errors])


def _documents(reader: InputReader, part: PlannedPart) -> Iterator[list[str]]:
    for document in reader.documents():
        yield split_sentences(document, part.input.languages[0]) if part.input.split_sentences else document
