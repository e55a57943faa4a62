"""What a corpus is made of, before anything is read: sources of text, and the parts they are cut into."""

from dataclasses import dataclass

# Bytes [start, end) of an uncompressed file, or (index, count) of a data set of the hub: what one task reads.
Part = tuple[int, int]


@dataclass(frozen=True)
class Input:
    """One source of text: a file, a pair of files, an archive, or a data set of the hub.

    `languages` are ("de",) or, for pairs, ("de", "en"). `paths` are absolute local paths or URLs that fsspec knows: two
    for `moses`, else one; for `hub` the data set's name or a local directory. `columns` name the text in JSONL,
    Parquet and data sets: one, or for pairs one a side, or one that holds {"de": …, "en": …}; in TSV and CSV they may
    be numbers, from 1, and for pairs are 1 and 2 if none are given. With `split_sentences` the texts of one language
    are running text. `config`, `split` and `revision` are those of a hub's data set. `codes`, where they are not empty,
    are what the languages are called in TMX, in OPUS' archives and in a column that holds {"de": …, "en": …}.
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
        """What each of the languages is called in its files."""
        return self.codes or self.languages

    @property
    def name(self) -> str:
        """Where its shards belong in the data directory: `mono/de` or `parallel/de-en`."""
        return f"mono/{self.languages[0]}" if len(self.languages) == 1 else f"parallel/{'-'.join(self.languages)}"

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(self.paths)}"
