"""A mapping of a task file: its values with their types checked, and problems with the places where they are."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from data_tools.files.yaml_files import Keys, is_null

Place = Callable[[Keys], str]  # where the value under some keys stands, such as "mine.yaml:3:8"


@dataclass(frozen=True)
class Section:
    """The mapping under `keys`; mistakes are added to `problems`, and a default stands in for a wrong value."""

    content: Mapping[Any, Any]
    keys: Keys
    place: Place
    problems: list[str]

    def complain(self, key: str | int, message: str) -> None:
        """Note a problem with the value of `key`."""
        self.problems.append(f"{self.place((*self.keys, key))}: {message}")

    def check_keys(self, known: Collection[str]) -> None:
        """Complain of keys that are not known."""
        for key in self.content:
            if key not in known:
                self.complain(key, f"unknown key {key!r}; {meant(str(key), known)}")

    def has(self, key: str) -> bool:
        """Whether a value is given that is not null."""
        return not is_null(self.content.get(key))

    def text(self, key: str, default: str | None = None) -> str:
        """A text; a number is taken as it is written. Without a default it must be given."""
        value = self.content.get(key)
        if is_null(value):
            if default is None:
                self.complain(key, f"{key} is missing")
            return default or ""
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.complain(key, f"{key}: expected a text, found {described(value)}")
            return default or ""
        return str(value)

    def one_of(self, key: str, known: Iterable[str], default: str | None = None) -> str | None:
        """One of `known`; None if it is another."""
        before = len(self.problems)
        value = self.text(key, default)
        if len(self.problems) > before:
            return None
        choices = list(known)
        if value not in choices:
            self.complain(key, f"{key} {value!r}: expected one of {', '.join(choices)}")
            return None
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, each once; one text counts as a list. Empty if none is given."""
        value = self.content.get(key)
        if is_null(value):
            return ()
        found = []
        for number, item in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(item, bool) or not isinstance(item, str | int | float):
                self.complain(key, f"{key}: expected texts, found {described(item)} at place {number + 1}")
            elif str(item) in found:
                self.complain(key, f"{key}: {item!r} is given twice")
            else:
                found.append(str(item))
        return tuple(found)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.content.get(key)
        if value is not None and not isinstance(value, bool):
            self.complain(key, f"{key}: expected true or false, found {described(value)}")
        return value if isinstance(value, bool) else default

    def section(self, key: str) -> Section:
        """A mapping, empty if it is not given."""
        value = self.content.get(key)
        if not is_null(value) and not isinstance(value, Mapping):
            self.complain(key, f"{key}: expected a mapping, found {described(value)}")
        return Section(value if isinstance(value, Mapping) else {}, (*self.keys, key), self.place, self.problems)

    def items(self, key: str) -> list[tuple[Section, Any]]:
        """The items of a list, or the single value as one; with an item that is a mapping, the section it makes."""
        value = self.content.get(key)
        if is_null(value):
            return []
        items = value if isinstance(value, list) else [value]
        under = (*self.keys, key)
        return [
            (
                Section(
                    item if isinstance(item, Mapping) else {},
                    (*under, number) if isinstance(value, list) else under,
                    self.place,
                    self.problems,
                ),
                item,
            )
            for number, item in enumerate(items)
        ]

    def texts_by_key(self, key: str) -> dict[str, str]:
        """A mapping from texts to texts, empty if it is not given."""
        section = self.section(key)
        return {str(name): section.text(name) for name in section.content}


def meant(name: str, known: Collection[str]) -> str:
    """The one of `known` that a wrong name may stand for, or all of them, as a message says it."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"expected some of {', '.join(known) or 'none'}"


def described(value: object) -> str:
    """A value as a message shows it."""
    if isinstance(value, bool):
        return f"{str(value).lower()} (in YAML yes, no, on and off are true and false; quote a language such as 'no')"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return repr(value)
