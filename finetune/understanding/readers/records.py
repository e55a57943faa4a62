"""Records: the fields of an example as a file has them, whatever its form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.understanding.tasks.task import Column, Columns, Format, HubPlace

# Fields that a test may lack, whose labels are hidden.
MAY_BE_HIDDEN = ("label", "tag", "answers", "starts")
EXCERPT = 60  # characters of a wrong value in a message


@dataclass(frozen=True, slots=True)
class Record:
    """The values of one example by the names of its fields, without those that it lacks.

    `where` is the place in the file, for messages.
    """

    values: Mapping[str, Any]
    where: str

    def text(self, field: str) -> str:
        """A text. Raises ValueError for anything else, and for half a surrogate pair, which no tokenizer takes."""
        value = self.values.get(field)
        if not isinstance(value, str):
            raise ValueError(f"{self.where}: {field}: expected a text, found {shown(value)}")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError(f"{self.where}: {field}: holds half a surrogate pair, which is no character")
        return value

    def text_or_none(self, field: str) -> str | None:
        """A text; None where the field is missing or null."""
        return None if self.values.get(field) is None else self.text(field)

    def cell(self, field: str) -> str | None:
        """The text of a label or an id, which may be a number; None where it is missing or null."""
        value = self.values.get(field)
        if isinstance(value, bool):
            return str(value).lower()
        return str(value) if isinstance(value, int | float) else self.text_or_none(field)

    def cells(self, field: str) -> list[str]:
        """A list of texts or numbers, as texts; raises ValueError for null among them."""
        found = [Record({field: value}, self.where).cell(field) for value in self.values[field]]
        if None in found:
            raise ValueError(f"{self.where}: {field}: expected texts, found null among them")
        return [str(one) for one in found]

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of texts, such as the words of a sentence."""
        values = self.values.get(field)
        if not isinstance(values, list | tuple):
            raise ValueError(f"{self.where}: {field}: expected a list of texts, found {shown(values)}")
        return tuple(Record({field: value}, self.where).text(field) for value in values)


def shown(value: object) -> str:
    """A value as a message shows it."""
    if value is None:
        return "null"
    text = repr(value)
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…"


def fields_of_columns(form: Format | HubPlace) -> dict[str, Columns]:
    """The columns of each field; the choices of a choice task are the fields choice_0, choice_1, …"""
    choices = {choice_field(number): (column,) for number, column in enumerate(form.choices)}
    return {**form.columns, **choices}


def joined(values: Sequence[Any]) -> Any:
    """The value of a field from those of its columns: texts joined by a space, without those that are empty."""
    if len(values) == 1:
        return values[0]
    if any(not isinstance(value, str | int | float | None) for value in values):
        return list(values)  # which is no text, as a message will say
    return " ".join(str(value) for value in values if value not in (None, ""))


def choice_field(number: int) -> str:
    """The name of the field of a choice."""
    return f"choice_{number}"


def position_of(column: Column, field: str, names: Sequence[str], where: str) -> int:
    """The position of a column among the names of a header; a number is the position itself.

    Raises ValueError for a name that the header does not have exactly once.
    """
    if isinstance(column, int):
        return column
    if names.count(column) != 1:
        found = "more than one" if column in names else "none"
        raise ValueError(
            f"{where}: {field}: expected one column {column!r}, found {found}; the columns are {', '.join(names)}"
        )
    return names.index(column)


def labels_joined(records: Iterable[Record], labels: Iterable[Record], where: str) -> Iterator[Record]:
    """The records with the labels of another file: by id where they have ids, else row by row.

    Raises ValueError for a record without a label, and for labels of no record.
    """
    rows = list(labels)
    by_id: dict[str, Any] = {str(row.cell("id")): row.values.get("label") for row in rows if "id" in row.values}
    count = 0
    for count, record in enumerate(records, start=1):
        if by_id:
            key = str(record.cell("id"))
            if key not in by_id:
                raise ValueError(f"{record.where}: has no label in {where} under the id {key!r}")
            label = by_id.pop(key)
        elif count > len(rows):
            raise ValueError(f"{record.where}: has no label in {where}, which has only {len(rows):,} rows")
        else:
            label = rows[count - 1].values.get("label")
        yield Record({**record.values, "label": label}, record.where)
    num_left = len(by_id) if by_id else max(len(rows) - count, 0)
    if num_left and count:
        raise ValueError(f"{where}: {num_left:,} labels are of no example")
