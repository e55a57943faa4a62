"""The sources of text of a corpus, before anything is read."""

from collections.abc import Sequence
from dataclasses import dataclass

from data_tools.files.formats import FORMATS_OF_PAIRS, TABLES, format_of
from data_tools.files.locations import real_file

TEXT_COLUMN = "text"  # of JSON lines and Parquet, as most crawls have it

# The part of an input that one task reads: bytes [start, end) of an uncompressed file, or (index, count) of the shards
# of a data set on the hub.
Part = tuple[int, int]


@dataclass(frozen=True)
class Input:
    """One source of text: a file, a pair of files, an archive, or a data set on the hub.

    `languages` are ("de",) or, for pairs, ("de", "en"). `paths` are absolute local paths or URLs that fsspec supports:
    two for `moses`, otherwise one; for `hub` the name of the data set or a local directory. `columns` name the text in
    JSONL, Parquet and data sets: one column, or for pairs one per side, or one that holds {"de": …, "en": …}; in TSV
    and CSV they may be numbers from 1, by default 1 and 2 for pairs. `split_sentences` says that texts of one language
    are running text. `config`, `split` and `revision` belong to a data set on the hub. `codes`, if not empty, are the
    codes of the languages in TMX, in OPUS archives and in a column that holds {"de": …, "en": …}.
    """

    languages: tuple[str, ...]
    format: str  # jsonl, parquet, tsv, csv, hub; one language: text; pairs: moses, tmx, opus
    paths: tuple[str, ...]
    columns: tuple[str | int, ...] = ()
    split_sentences: bool = False
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    codes: tuple[str, ...] = ()

    @property
    def codes_in_file(self) -> tuple[str, ...]:
        """The codes of the languages in the files."""
        return self.codes or self.languages

    @property
    def name(self) -> str:
        """The place of its shards in the data directory: `mono/de` or `parallel/de-en`."""
        return f"mono/{self.languages[0]}" if len(self.languages) == 1 else f"parallel/{'-'.join(self.languages)}"

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(self.paths)}"


def plain_input(language: str, path: str, corpus: str = "a corpus") -> Input:
    """The input of a file in one language of which only the name is known.

    Raises ValueError if the name gives no format, or one that needs options, to be given in `corpus` (for the message).
    """
    format = format_of(path)
    if format in FORMATS_OF_PAIRS:
        raise ValueError(f"{path}: {format} files hold pairs; in {corpus}, name it under parallel, as {format}: …")
    if format in TABLES:
        raise ValueError(
            f"{path}: a table; in {corpus}, say which column to read: {{{format}: …, column: …}} for one language, "
            "or two columns under parallel"
        )
    return Input((language,), format, (path,), () if format == "text" else (TEXT_COLUMN,))


def files_named_twice(inputs: Sequence[Input]) -> list[str]:
    """A message for each source that is given twice for one language: its sentences would count twice."""
    problems = []
    seen: dict[object, Input] = {}
    for item in inputs:
        files = item.paths if item.format == "hub" else tuple(map(real_file, item.paths))
        first = seen.setdefault((item.name, files, item.config, item.split, item.columns, item.codes), item)
        if first is not item:
            also = "" if first.paths == item.paths else f", as {first.paths[0]}, which is the same file (a link)"
            problems.append(f"{item.name}: {item.paths[0]} is given twice{also}")
    return problems
