"""JSONL: one object per line, whose values under the columns are texts or the two sides of a pair."""

import json
import re
from collections.abc import Iterator

from data_tools.readers.source import documents_of, listed
from data_tools.readers.text import LineSource


class JsonlSource(LineSource):
    """The texts or pairs of a JSONL file; null is a missing text.

    Raises ValueError naming a line that is not an object, lacks a column, or has other than text or null in it.
    """

    def documents(self) -> Iterator[list[str]]:
        (column,) = map(str, self.item.columns)
        for number, line, record in self._records():
            text = self._text(number, line, record, (column,))
            documents = documents_of(text) if text else []
            yield from documents
            if not documents:
                self.dropped["empty"] += 1

    def pairs(self) -> Iterator[tuple[str, str]]:
        columns = tuple(map(str, self.item.columns))
        source_path, target_path = (
            [(column,) for column in columns]
            if len(columns) == 2
            else [(*columns, code) for code in self.item.codes_in_file]
        )
        for number, line, record in self._records():
            source = self._text(number, line, record, source_path)
            target = self._text(number, line, record, target_path)
            if source is None or target is None:
                self.dropped["missing_side"] += 1
            else:
                yield source, target

    def _records(self) -> Iterator[tuple[int, str, object]]:
        """(line number, line, parsed value) of each line that is not blank."""
        keys = [json.dumps(key, ensure_ascii=False) for key in self._keys]
        spelled = [(key, re.compile(rf"{re.escape(key)}\s*:")) for key in keys]
        for number, line in enumerate(self.lines, start=1):
            if not line or line.isspace():
                continue
            try:
                value = json.loads(line)
                if any(line.count(key) > 1 and len(pattern.findall(line)) > 1 for key, pattern in spelled):
                    # They may be in different objects.
                    json.loads(line, object_pairs_hook=self._refuse_twice)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{self.lines.place(number)}: expected a JSON object ({error}){hint(line)}") from None
            if isinstance(value, list):
                raise ValueError(f"{self.lines.place(number)}: expected a JSON object, found a list{hint(line)}")
            yield number, line, value

    @property
    def _keys(self) -> tuple[str, ...]:
        """The keys under which the text is."""
        is_nested = len(self.item.columns) < len(self.item.languages)
        return (*map(str, self.item.columns), *(self.item.codes_in_file if is_nested else ()))

    def _refuse_twice(self, items: list[tuple[str, object]]) -> None:
        """Raise ValueError for an object that repeats one of the keys: Python's parser would keep the last value."""
        names = [name for name, _ in items]
        for key in self._keys:
            if names.count(key) > 1:
                raise ValueError(f"with one {key!r}, found {names.count(key)}")

    def _text(self, number: int, line: str, value: object, path: tuple[str, ...]) -> str | None:
        """The text under the keys `path`; None for null, also if an object on the way is null."""
        for depth, key in enumerate(path):
            if value is None and depth:
                return None
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
            # JSON can spell half of a surrogate pair, "\\ud83d", which has no encoding.
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                raise ValueError(f"{self.lines.place(number)}: {path[-1]!r} holds half of a surrogate pair") from None
        return value


def hint(line: str) -> str:
    """Advice if a line looks like the beginning of one JSON text of many lines; otherwise empty."""
    if line.strip() == "{" or line.lstrip().startswith("["):
        return "; if the file is one JSON text, convert it to one object per line: jq -c '.[]', or jq -c ."
    return ""
