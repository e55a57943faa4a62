"""Arrow tables, as read from Parquet files and data sets on the hub: columns of texts, or of pairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from data_tools.corpus.inputs import Input
from data_tools.readers.source import documents_of, listed

if TYPE_CHECKING:  # slow to import, and needed for these sources only
    import pyarrow


class TextColumns:
    """The columns of an input in the batches of one table; `dropped` counts the texts or pairs without content.

    Raises ValueError naming the columns found if one is missing or does not hold text.
    """

    def __init__(self, item: Input, schema: pyarrow.Schema, dropped: Counter[str]) -> None:
        self.item = item
        self.dropped = dropped
        self._is_nested = len(item.columns) < len(item.languages)
        for column in item.columns:
            self._check_once(f"column {column!r}", str(column), schema.names)
            self._check_type(str(column), schema.field(column).type)

    def documents(self, batch: pyarrow.RecordBatch) -> Iterator[list[str]]:
        """The non-blank lines of each text; a text without any, or a null, counts as `empty`."""
        (texts,) = self._texts(batch)
        for text in texts:
            documents = documents_of(text) if text else []
            yield from documents
            if not documents:
                self.dropped["empty"] += 1

    def pairs(self, batch: pyarrow.RecordBatch) -> Iterator[tuple[str, str]]:
        """The pairs; one with a null on either side counts as `missing_side`."""
        for source, target in zip(*self._texts(batch), strict=True):
            if source is None or target is None:
                self.dropped["missing_side"] += 1
            else:
                yield source, target

    @property
    def _where(self) -> str:
        return ", ".join(filter(None, (*self.item.paths, self.item.config, self.item.split)))

    def _check_once(self, what: str, name: str, names: Sequence[str]) -> None:
        if name not in names:
            raise ValueError(f"{self._where}: no {what}; it has {listed(names)}")
        if names.count(name) > 1:
            raise ValueError(f"{self._where}: {what} exists {names.count(name)} times; expected one of that name")

    def _check_type(self, column: str, type: pyarrow.DataType) -> None:
        import pyarrow

        texts = [type]
        if self._is_nested:
            if not pyarrow.types.is_struct(type):
                raise ValueError(
                    f"{self._where}: column {column!r} is {type}, expected {listed(self.item.codes_in_file)} in it"
                )
            names = [field.name for field in type]
            for code in self.item.codes_in_file:
                self._check_once(f"{code!r} in column {column!r}", code, names)
            texts = [type.field(code).type for code in self.item.codes_in_file]
        for text in texts:
            if not (_is_text(text) or (pyarrow.types.is_dictionary(text) and _is_text(text.value_type))):
                raise ValueError(f"{self._where}: column {column!r} is {type}, expected text")

    def _texts(self, batch: pyarrow.RecordBatch) -> list[list[str | None]]:
        """The values of the column, or of both."""
        import pyarrow.compute

        arrays: list[Any] = [batch.column(column) for column in self.item.columns]
        if self._is_nested:
            arrays = [pyarrow.compute.struct_field(arrays[0], code) for code in self.item.codes_in_file]
        try:
            return [array.to_pylist() for array in arrays]
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self._where}: column {listed(map(str, self.item.columns))} is not UTF-8 ({error})"
            ) from None


def _is_text(type: pyarrow.DataType) -> bool:
    from pyarrow import types

    # A column that holds only nulls has the type null.
    return types.is_string(type) or types.is_large_string(type) or types.is_string_view(type) or types.is_null(type)
