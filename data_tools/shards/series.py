"""Shards of bounded size, one after the other, from a stream of batches."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from data_tools.shards.format import ShardInfo, ShardWriter
from data_tools.stages.text_batches import TokenBatch
from data_tools.tokenizers.unknown_pieces import RecordWriter


class ShardSeries:
    """Writes shards 00000, 00001, … into a directory, one for each language; used as a context manager.

    Beside those with unknown pieces lie the records of these (data_tools.tokenizers.unknown_pieces).

    A shard is closed after the batch that fills it, so it holds whole documents and is larger than `shard_tokens` by
    less than a batch. `infos` are those of the shards that are closed, with prefixes `{directory name}/00000`.
    """

    def __init__(self, directory: Path, languages: tuple[str, ...], vocab_size: int, shard_tokens: int) -> None:
        self.directory = directory
        self.languages = languages
        self.vocab_size = vocab_size
        self.shard_tokens = shard_tokens
        self.infos: list[dict[str, ShardInfo]] = []
        self._writers: list[ShardWriter] = []
        self._records: list[RecordWriter] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._close()
        else:
            self._stack.__exit__(kind, error, trace)

    def add(self, batch: TokenBatch) -> None:
        """Append the units of a batch."""
        if len(batch) == 0:
            return
        if not self._writers:
            self._open()
        # The documents of pairs are the pairs themselves, which need no borders: each side is one document.
        document_ends = batch.document_ends if len(self.languages) == 1 else ()
        for writer, records, side in zip(self._writers, self._records, batch.sides, strict=True):
            writer.add_sequences(side.ids, side.lengths, document_ends)
            records.add(side.unknown)
        if max(writer.num_tokens for writer in self._writers) >= self.shard_tokens:
            self._close()

    def _prefixes(self) -> list[str]:
        number = f"{self.directory.name}/{len(self.infos):05d}"
        return [number] if len(self.languages) == 1 else [f"{number}.{language}" for language in self.languages]

    def _open(self) -> None:
        prefixes = [self.directory.parent / prefix for prefix in self._prefixes()]
        self._writers = [self._stack.enter_context(ShardWriter(prefix, self.vocab_size)) for prefix in prefixes]
        self._records = [self._stack.enter_context(RecordWriter(prefix)) for prefix in prefixes]

    def _close(self) -> None:
        """Give the open shard its name; the next batch begins a new one."""
        self._stack.close()
        if self._writers:
            infos = [writer.info(prefix) for writer, prefix in zip(self._writers, self._prefixes(), strict=True)]
            self.infos.append(dict(zip(self.languages, infos, strict=True)))
        self._writers = []
