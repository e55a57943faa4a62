"""JSON: an object a line, or a list of objects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_tools.text.lines import open_text, read_text
from finetune.understanding.readers.records import MAY_BE_HIDDEN, Record, fields_of_columns, joined, shown
from finetune.understanding.tasks.task import Columns, Format


def records_of_json_lines(path: Path, form: Format) -> Iterator[Record]:
    """The objects of a file of one object a line; blank lines are skipped."""
    columns = fields_of_columns(form)
    with open_text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = lines.place(number)
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise ValueError(f"{where}: expected a JSON object ({error})") from None
                yield record_of(value, columns, where)


def records_of_json(path: Path, form: Format) -> Iterator[Record]:
    """The objects of a list, which is the file or under the key `records`."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if form.records:
        if not isinstance(content, Mapping) or form.records not in content:
            raise ValueError(f"{path}: expected an object with the key {form.records!r}, found {shown(content)}")
        content = content[form.records]
    if not isinstance(content, list):
        raise ValueError(
            f"{path}: expected a list of objects, found {shown(content)}; if it is under a key, name it by `records`"
        )
    columns = fields_of_columns(form)
    for number, value in enumerate(content):
        yield record_of(value, columns, f"{path}: object {number + 1}")


def record_of(value: Any, columns: Mapping[str, Columns], where: str) -> Record:
    """The fields of an object. Raises ValueError for a key that it lacks, unless a test may hide it."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a JSON object, found {shown(value)}")
    fields = {}
    for field, keys in columns.items():
        missing = [str(key) for key in keys if str(key) not in value]
        if not missing:
            fields[field] = joined([value[str(key)] for key in keys])
        elif field not in MAY_BE_HIDDEN:
            raise ValueError(f"{where}: {field}: has no key {missing[0]!r}; it has {', '.join(map(str, value))}")
    return Record(fields, where)
