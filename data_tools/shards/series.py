"""Writing a stream of batches into consecutive shards of bounded size."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from data_tools.shards.format import ShardInfo, ShardWriter
from data_tools.stages.text_batches import TokenBatch
from data_tools.tokenizers.unknown_pieces import RecordWriter


class ShardSeries:
    """Writes shards 00000, 00001, … for each language into a directory; used as a context manager.

    Next to a shard with unknown pieces is the file of their records (data_tools.tokenizers.unknown_pieces).

    A shard is closed after the batch that fills it, so it holds whole documents and exceeds `shard_tokens` by less than
    a batch. `infos` are the entries of the closed shards, with prefixes `{directory name}/00000`.
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
        # Each pair is a document of its own, which needs no borders: each side is stored as one document.
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
        """Close the open shard, which renames it into place; the next batch begins a new one."""
        self._stack.close()
        if self._writers:
            infos = [writer.info(prefix) for writer, prefix in zip(self._writers, self._prefixes(), strict=True)]
            self.infos.append(dict(zip(self.languages, infos, strict=True)))
        self._writers = []
