"""Tables of Arrow, as Parquet files and data sets of the hub yield them: columns of texts, or of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from data_tools.inputs import Input
from data_tools.readers.source import documents_of, listed

if TYPE_CHECKING:  # slow to import: only who reads such a source needs it
    import pyarrow


class TextColumns:
    """The columns of an input in the batches of one table; `dropped` counts what is left out.

    Raises ValueError naming the columns found if one is missing, or does not hold text.
    """

    def __init__(self, item: Input, schema: pyarrow.Schema, dropped: Counter[str]) -> None:
        self.item = item
        self.dropped = dropped
        self._is_nested = len(item.columns) < len(item.languages)
        for column in item.columns:
            if column not in schema.names:
                raise ValueError(f"{self._where}: no column {column!r}; it has {listed(schema.names)}")
            self._check_type(column, schema.field(column).type)

    def documents(self, batch: pyarrow.RecordBatch) -> Iterator[list[str]]:
        """The non-blank lines of each text; a text without any, or null, counts as `empty`."""
        (texts,) = self._texts(batch)
        for text in texts:
            documents = documents_of(text) if text else []
            yield from documents
            if not documents:
                self.dropped["empty"] += 1

    def pairs(self, batch: pyarrow.RecordBatch) -> Iterator[tuple[str, str]]:
        """The pairs; one with null on a side counts as `missing_side`."""
        for source, target in zip(*self._texts(batch), strict=True):
            if source is None or target is None:
                self.dropped["missing_side"] += 1
            else:
                yield source, target

    @property
    def _where(self) -> str:
        return ", ".join(filter(None, (*self.item.paths, self.item.config, self.item.split)))

    def _check_type(self, column: str, type: pyarrow.DataType) -> None:
        import pyarrow

        texts = [type]
        if self._is_nested:
            names = [field.name for field in type] if pyarrow.types.is_struct(type) else []
            for language in self.item.languages:
                if language not in names:
                    found = f"it holds {listed(names)}" if names else f"it is {type}"
                    raise ValueError(f"{self._where}: column {column!r} has no {language!r}; {found}")
            texts = [type.field(language).type for language in self.item.languages]
        for text in texts:
            if not (_is_text(text) or (pyarrow.types.is_dictionary(text) and _is_text(text.value_type))):
                raise ValueError(f"{self._where}: column {column!r} is {type}, expected text")

    def _texts(self, batch: pyarrow.RecordBatch) -> list[list[str | None]]:
        """The values of a column, or of both."""
        import pyarrow.compute

        columns: list[Any] = [batch.column(column) for column in self.item.columns]
        if self._is_nested:
            columns = [pyarrow.compute.struct_field(columns[0], language) for language in self.item.languages]
        try:
            return [column.to_pylist() for column in columns]
        except UnicodeDecodeError as error:
            raise ValueError(f"{self._where}: column {listed(self.item.columns)} is not UTF-8 ({error})") from None


def _is_text(type: pyarrow.DataType) -> bool:
    from pyarrow import types

    # A column of nulls alone has the type null.
    return types.is_string(type) or types.is_large_string(type) or types.is_string_view(type) or types.is_null(type)
