"""Data sets on the Hugging Face hub, or in a local directory of that kind, streamed by the library `datasets`."""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_tools.corpus.inputs import Input, Part
from data_tools.files.locations import identity_of_file
from data_tools.readers.arrow import TextColumns
from data_tools.readers.source import Source

BATCH_ROWS = 1_000
COMMIT = re.compile(r"[0-9a-f]{40}")


class HubSource(Source):
    """The rows of a data set; a part (i, n) is the i-th of its n shards.

    Raises ValueError with the message of `datasets`.
    """

    def __init__(self, item: Input, part: Part | None) -> None:
        super().__init__(item, part)
        with _errors(item):
            self._rows = _load(item)
            if part is not None:
                index, count = part
                if self._rows.num_shards != count:
                    raise ValueError(f"it has {self._rows.num_shards} shards now, but had {count} in the plan")
                self._rows = self._rows.shard(num_shards=count, index=index)
            if set(item.columns) <= set(self._rows.column_names or ()):
                self._rows = self._rows.select_columns(list(item.columns))

    @classmethod
    def parts_of(cls, item: Input, max_bytes: int) -> list[Part | None]:
        with _errors(item):
            count = _load(item).num_shards
        return [None] if count == 1 else [(index, count) for index in range(count)]

    @classmethod
    def identity_of(cls, item: Input) -> list[str | int]:
        (name,) = item.paths
        identity: list[str | int] = [Path(name).name, item.config or "", item.split or ""]
        if not Path(name).is_dir():
            return [name, *identity[1:], pinned(item).revision or ""]
        for path in sorted(path for path in Path(name).rglob("*") if path.is_file()):
            identity += [str(path.relative_to(name)), *identity_of_file(str(path))[1:]]
        return identity

    @classmethod
    def size_of(cls, item: Input) -> int:
        return 0

    @property
    def num_bytes_read(self) -> int:
        return 0

    def close(self) -> None:
        pass

    def documents(self) -> Iterator[list[str]]:
        for columns, batch in self._batches():
            yield from columns.documents(batch)

    def pairs(self) -> Iterator[tuple[str, str]]:
        for columns, batch in self._batches():
            yield from columns.pairs(batch)

    def _batches(self) -> Iterator[tuple[TextColumns, Any]]:
        tables = self._rows.with_format("arrow").iter(BATCH_ROWS)
        while True:
            with _errors(self.item):
                table = next(tables, None)
            if table is None:
                return
            columns = TextColumns(self.item, table.schema, self.dropped)
            for batch in table.to_batches():
                yield columns, batch


def pinned(item: Input) -> Input:
    """The input with its version fixed: for a data set on the hub, `revision` becomes the commit it now points to.

    Asks the hub, unless `revision` is a commit already. Other inputs, and local directories, are returned unchanged.
    """
    (name, *_) = item.paths
    if item.format != "hub" or Path(name).is_dir() or (item.revision and COMMIT.fullmatch(item.revision)):
        return item
    from huggingface_hub import HfApi  # slow to import

    with _errors(item):
        return replace(item, revision=HfApi().dataset_info(name, revision=item.revision).sha)


def _load(item: Input) -> Any:
    """The streamed data set of an input."""
    import datasets  # takes a second to import

    (name,) = item.paths
    datasets.disable_progress_bars()  # while it looks for files
    return datasets.load_dataset(name, item.config, split=item.split, revision=item.revision, streaming=True)


@contextmanager
def dataset_errors(where: str) -> Iterator[None]:
    """Turn the exceptions of `datasets` and the libraries beneath it into a ValueError that names the data set."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{where}: cannot be read with `datasets` ({type(error).__name__}: {error})") from None


def _errors(item: Input) -> AbstractContextManager[None]:
    return dataset_errors(", ".join(filter(None, (*item.paths, item.config, item.split, item.revision))))
