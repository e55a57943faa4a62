"""Parquet files, a batch of rows at a time."""

from collections.abc import Iterator
from typing import Any

from data_tools.corpus.inputs import Input, Part
from data_tools.files.formats import check_is_not_another
from data_tools.files.locations import open_binary
from data_tools.readers.arrow import TextColumns
from data_tools.readers.file_parts import cut_file
from data_tools.readers.source import Source

PARQUET = b"PAR1"  # the first bytes of a file
BATCH_ROWS = 1_000
READ_BYTES = 1 << 20
MAX_METADATA = (1 << 31) - 1  # bytes and items of the metadata of a file: the largest possible limit


class ParquetSource(Source):
    """The rows of a file, or of the row groups that begin within a part of it; other columns are not read.

    Raises ValueError if the file is damaged.
    """

    def __init__(self, item: Input, part: Part | None) -> None:
        super().__init__(item, part)
        import pyarrow  # slow to import, and needed for Parquet only
        from pyarrow import parquet

        (self.path,) = item.paths
        self._errors = (pyarrow.ArrowException, OSError)
        self._start, self._end = part or (0, self.size_of(item))
        self._raw = open_binary(self.path)
        try:
            try:
                self._file = parquet.ParquetFile(
                    self._raw,
                    buffer_size=READ_BYTES,
                    thrift_string_size_limit=MAX_METADATA,
                    thrift_container_size_limit=MAX_METADATA,
                )
            except self._errors as error:
                check_is_not_another(self.path, PARQUET, "Parquet")
                raise ValueError(f"{self.path}: not a Parquet file, or cut short ({error})") from None
            self._columns = TextColumns(item, self._file.schema_arrow, self.dropped)
        except BaseException:
            self._raw.close()
            raise
        metadata = self._file.metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        self._groups = [
            i for i, group in enumerate(groups) if part is None or self._start <= _offset(group) < self._end
        ]
        self._num_rows = sum(groups[i].num_rows for i in self._groups)
        self._num_rows_read = 0

    @classmethod
    def parts_of(cls, item: Input, max_bytes: int) -> list[Part | None]:
        (path,) = item.paths
        return cut_file(path, max_bytes)

    @property
    def num_bytes_read(self) -> int:
        return (self._end - self._start) * self._num_rows_read // max(self._num_rows, 1)

    def close(self) -> None:
        self._file.close()
        self._raw.close()

    def documents(self) -> Iterator[list[str]]:
        for batch in self._batches():
            yield from self._columns.documents(batch)

    def pairs(self) -> Iterator[tuple[str, str]]:
        for batch in self._batches():
            yield from self._columns.pairs(batch)

    def _batches(self) -> Iterator[Any]:
        batches = self._file.iter_batches(BATCH_ROWS, self._groups, list(self.item.columns))
        while True:
            try:
                batch = next(batches, None)
            except self._errors as error:
                raise ValueError(f"{self.path}: damaged ({error}); fetch it again") from None
            if batch is None:
                return
            self._num_rows_read += batch.num_rows
            yield batch


def _offset(group: Any) -> int:
    """The byte of the file at which a row group begins."""
    column = group.column(0)
    offsets = (column.dictionary_page_offset, column.data_page_offset)
    return min(offset for offset in offsets if offset is not None)
