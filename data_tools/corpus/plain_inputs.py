"""Files of which no more is said than their names: what they are taken for, and whether one is named twice."""

from collections.abc import Sequence

from data_tools.corpus.inputs import Input
from data_tools.files.formats import FORMATS_OF_PAIRS, TABLES, format_of
from data_tools.files.locations import real_file

TEXT_COLUMN = "text"  # of JSON lines and Parquet, as most crawls have it


def plain_input(language: str, path: str, corpus: str = "a corpus") -> Input:
    """The input of a file of one language of which nothing but the name is known.

    Raises ValueError where that tells no format, or one of which more has to be said: in `corpus`, as it is called.
    """
    format = format_of(path)
    if format in FORMATS_OF_PAIRS:
        raise ValueError(f"{path}: {format} files hold pairs; in {corpus}, name it under parallel, as {format}: …")
    if format in TABLES:
        raise ValueError(
            f"{path}: a table of columns; in {corpus}, say which to read: {{{format}: …, column: …}} for one language, "
            f"or two columns under parallel"
        )
    return Input((language,), format, (path,), () if format == "text" else (TEXT_COLUMN,))


def files_named_twice(inputs: Sequence[Input]) -> list[str]:
    """What to say of sources that are named twice for one language: their sentences would count twice."""
    problems = []
    seen: dict[object, Input] = {}
    for item in inputs:
        files = item.paths if item.format == "hub" else tuple(map(real_file, item.paths))
        first = seen.setdefault((item.name, files, item.config, item.split, item.columns, item.codes), item)
        if first is not item:
            also = "" if first.paths == item.paths else f", as {first.paths[0]}, which is the same file (a link)"
            problems.append(f"{item.name}: {item.paths[0]} is named twice{also}")
    return problems
