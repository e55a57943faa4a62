"""What a corpus is made of, before anything is read: sources of text, and the parts they are cut into."""

from dataclasses import dataclass

# Bytes [start, end) of an uncompressed file, or (index, count) of a data set of the hub: what one task reads.
Part = tuple[int, int]


@dataclass(frozen=True)
class Input:
    """One source of text: a file, a pair of files, an archive, or a data set of the hub.

    `languages` are ("de",) or, for pairs, ("de", "en"). `paths` are absolute local paths or URLs that fsspec knows: two
    for `moses`, else one; for `hub` the data set's name or a local directory. `columns` name the text in JSONL,
    Parquet and data sets: one, or for pairs one a side, or one that holds {"de": …, "en": …}. With `split_sentences`
    the texts of one language are running text. `config`, `split` and `revision` are those of a hub's data set.
    """

    languages: tuple[str, ...]
    format: str  # one language: text, jsonl, parquet, hub; pairs: moses, tsv, tmx, opus, jsonl, parquet, hub
    paths: tuple[str, ...]
    columns: tuple[str, ...] = ()
    split_sentences: bool = False
    config: str | None = None
    split: str | None = None
    revision: str | None = None

    @property
    def name(self) -> str:
        """Where its shards belong in the data directory: `mono/de` or `parallel/de-en`."""
        return f"mono/{self.languages[0]}" if len(self.languages) == 1 else f"parallel/{'-'.join(self.languages)}"

    def __str__(self) -> str:
        return f"{self.name}: {', '.join(self.paths)}"
