"""Shards of bounded size, one after the other, from a stream of batches."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from data_tools.batches import TokenBatch
from data_tools.shards import ShardInfo, ShardWriter


class ShardSeries:
    """Writes shards 00000, 00001, … into a directory, a file for each language; used as a context manager.

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
        """Nothing; appends the units of a batch."""
        if len(batch) == 0:
            return
        if not self._writers:
            self._open()
        for writer, (ids, lengths) in zip(self._writers, batch.sides, strict=True):
            # The documents of pairs are the pairs themselves, which need no borders: each side is one document.
            writer.add_sequences(ids, lengths, batch.document_ends if len(self.languages) == 1 else ())
        if max(writer.num_tokens for writer in self._writers) >= self.shard_tokens:
            self._close()

    def _prefixes(self) -> list[str]:
        number = f"{self.directory.name}/{len(self.infos):05d}"
        return [number] if len(self.languages) == 1 else [f"{number}.{language}" for language in self.languages]

    def _open(self) -> None:
        self._writers = [
            self._stack.enter_context(ShardWriter(self.directory.parent / prefix, self.vocab_size))
            for prefix in self._prefixes()
        ]

    def _close(self) -> None:
        """Nothing; the open shard gets its name, the next batch begins a new one."""
        self._stack.close()
        if self._writers:
            infos = [writer.info(prefix) for writer, prefix in zip(self._writers, self._prefixes(), strict=True)]
            self.infos.append(dict(zip(self.languages, infos, strict=True)))
        self._writers = []
