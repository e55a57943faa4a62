"""JSONL: an object a line, whose values under the columns are texts or the two sides of a pair."""

import json
from collections.abc import Iterator
from typing import Any

from data_tools.readers.source import documents_of, listed
from data_tools.readers.text import LineSource


class JsonlSource(LineSource):
    """Null is a text that is not there. Raises ValueError naming the line that is no object, has no such value, or
    another than text or null.
    """

    def documents(self) -> Iterator[list[str]]:
        (column,) = self.item.columns
        for number, line, record in self._records():
            text = self._text(number, line, record, (column,))
            documents = documents_of(text) if text else []
            yield from documents
            if not documents:
                self.dropped["empty"] += 1

    def pairs(self) -> Iterator[tuple[str, str]]:
        columns = self.item.columns
        source_path, target_path = (
            [(column,) for column in columns]
            if len(columns) == 2
            else [(*columns, language) for language in self.item.languages]
        )
        for number, line, record in self._records():
            source = self._text(number, line, record, source_path)
            target = self._text(number, line, record, target_path)
            if source is None or target is None:
                self.dropped["missing_side"] += 1
            else:
                yield source, target

    def _records(self) -> Iterator[tuple[int, str, Any]]:
        """(number of the line, the line, its value)"""
        for number, line in enumerate(self.lines, start=1):
            if not line or line.isspace():
                continue
            try:
                yield number, line, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{self.lines.place(number)}: expected a JSON object ({error})") from None

    def _text(self, number: int, line: str, value: Any, path: tuple[str, ...]) -> str | None:
        """What is found under the keys `path`, if it is text or null."""
        for key in path:
            if not isinstance(value, dict):
                found = "null" if value is None else type(value).__name__
                raise ValueError(f"{self.lines.place(number)}: expected an object with {key!r}, found {found}")
            if key not in value:
                raise ValueError(f"{self.lines.place(number)}: no {key!r} in the object; it has {listed(value)}")
            value = value[key]
        if value is None:
            return None
        if not isinstance(value, str):
            raise ValueError(f"{self.lines.place(number)}: {path[-1]!r} is {type(value).__name__}, expected a string")
        if "\\u" in line:
            # JSON can spell half a surrogate pair, "\\ud83d": no text in any encoding.
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise ValueError(f"{self.lines.place(number)}: {path[-1]!r} holds half of a surrogate pair") from None
        return value
