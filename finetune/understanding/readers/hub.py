"""Parquet files through the library `datasets`: of the hub, of local copies of its directories, and single files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data_tools.readers.hub import dataset_errors
from finetune.understanding.readers.files import OF_LANGUAGE, language_alone
from finetune.understanding.readers.records import Record, fields_of_columns, joined
from finetune.understanding.readers.roots import PREFIX
from finetune.understanding.tasks.task import Columns, Format, HubPlace, Split, Task

BATCH_ROWS = 1_000
WITHOUT_CONFIG = "data"  # where a data set without configurations has its files


def has_config(task: Task, split: Split, language: str, root: str) -> bool:
    """Whether the split exists in a language: on the hub by the task's description, offline; in a copy by its files."""
    if split not in task.hub or language not in {*task.languages, *task.train_languages}:
        return False
    place = task.hub[split]
    has_languages = any(name in place.config for name in OF_LANGUAGE) or place.has_all_languages
    if not has_languages and language != language_alone(task, split):  # English only: SQuAD
        return False
    if root.startswith(PREFIX):
        return language not in place.without
    return any(Path(root).glob(_files_of_copy(_config(task, place, language), place.split)))


def _files_of_copy(config: str, split: str) -> str:
    """The pattern of a split's files in a copy, relative to its root."""
    return f"{config or WITHOUT_CONFIG}/{split}-*.parquet"


def records_of_hub(task: Task, split: Split, language: str, root: str) -> Iterator[Record]:
    """The rows of a split in a language; only its own files are opened.

    Raises ValueError if the split does not exist in the language, for a missing column, and for classes that are
    numbers without names where the task's labels are names.
    """
    if not has_config(task, split, language, root):
        raise ValueError(f"{root}: has no {split} of {task.name} for the language {language!r}")
    place = task.hub[split]
    config = _config(task, place, language)
    where = f"{root}, {config}, {place.split}" if config else f"{root}, {place.split}"
    import datasets  # takes a second to import

    datasets.disable_progress_bars()  # of the library's search for files
    with dataset_errors(where):
        if root.startswith(PREFIX):
            name = root.removeprefix(PREFIX)
            dataset = datasets.load_dataset(name, config or None, split=place.split, streaming=True)
        else:  # by its files, since a copy may lack the card that names the configurations
            files = {place.split: _files_of_copy(config, place.split)}
            dataset = datasets.load_dataset(root, data_files=files, split=place.split, streaming=True)
    prefix = place.id_prefix.format(language=language, code=task.code(language))
    columns = fields_of_columns(place)
    if place.language_column:
        columns["language"] = (place.language_column,)
    for record in _records(dataset, columns, where, f"{root}: row {{}} of {task.name}"):
        of_language = record.values.get("language") if place.language_column else language
        if of_language == language and (not prefix or (record.cell("id") or "").startswith(prefix)):
            yield record


def records_of_parquet(path: Path, form: Format) -> Iterator[Record]:
    """The rows of one Parquet file."""
    import datasets

    datasets.disable_progress_bars()
    with dataset_errors(str(path)):
        dataset = datasets.load_dataset("parquet", data_files={"all": str(path)}, split="all", streaming=True)
    return _records(dataset, fields_of_columns(form), str(path), f"{path}: row {{}}")


def _records(dataset: Any, columns: Mapping[str, Columns], where: str, place: str) -> Iterator[Record]:
    """The rows of a streamed data set, with the names of classes that are numbers."""
    with dataset_errors(where):
        found = dataset.column_names or []
    wanted = list(dict.fromkeys(str(column) for given in columns.values() for column in given))
    missing = [column for column in wanted if column not in found]
    if missing:
        raise ValueError(f"{where}: has no column {missing[0]!r}; it has {', '.join(found)}")
    dataset = dataset.select_columns(wanted)
    names = {column: _class_names(dataset, column) for column in wanted}
    number = 0
    rows = dataset.with_format("arrow").iter(BATCH_ROWS)
    while True:
        with dataset_errors(where):
            table = next(rows, None)
        if table is None:
            return
        for row in table.to_pylist():
            number += 1
            at = place.format(number)
            values = {column: _named(row[column], names[column]) for column in wanted}
            yield Record({field: joined([values[str(one)] for one in given]) for field, given in columns.items()}, at)


def _class_names(dataset: Any, column: str) -> list[str] | None:
    """The names of the classes in a column of class numbers, or of lists of them; None where the data set has none."""
    from datasets import ClassLabel

    feature = (dataset.features or {}).get(column)
    feature = feature if isinstance(feature, ClassLabel) else getattr(feature, "feature", None)
    return list(feature.names) if isinstance(feature, ClassLabel) else None


def _named(value: Any, names: list[str] | None) -> Any:
    """A class number as its name, also in lists; other values as they are."""
    if isinstance(value, list) and value and not isinstance(value[0], dict | str):
        return [_named(one, names) for one in value]
    if names is None or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None  # -1 stands for a hidden label


def _config(task: Task, place: HubPlace, language: str) -> str:
    return place.config.format(language=language, code=task.code(language))
