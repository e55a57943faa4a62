"""One task of prepare: one file (or pair of files) becomes its own shards.

Running a task is a pure function of the dataclass `Task`, whoever calls it: it reads the input as a stream, writes into
its own directory and nowhere else, and writes `result.json` last. A directory without it is unfinished and made anew.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np

from data_tools.corpus import Input
from data_tools.files import TextLines, atomic_path, open_text
from data_tools.readers import read_pairs, read_sentences
from data_tools.shards import ShardInfo, ShardWriter
from data_tools.tokenizer import PieceEncoder

T = TypeVar("T")
RESULT_NAME = "result.json"
PROGRESS_NAME = "progress"
PROGRESS_SECONDS = 0.5
BATCH_CHARACTERS = 1 << 20  # encoded at once: large enough that calls cost nothing, small enough for little memory
# A document longer than this many shards' worth of tokens is cut: without blank lines a whole file is one document.
MAX_SHARD_OVERSHOOT = 2


@dataclass(frozen=True)
class Task:
    """What one worker needs to know: the input, where to write, with which tokenizer, and the size of a shard."""

    input: Input
    directory: Path
    tokenizer_dir: Path
    shard_tokens: int

    def __str__(self) -> str:
        return f"{self.input.name}: {', '.join(map(str, self.input.paths))}"


@dataclass(frozen=True)
class TaskResult:
    """The shards of a task in order, {language: info} with prefixes inside its directory, and what was dropped."""

    shards: list[dict[str, ShardInfo]]
    dropped: dict[str, int]

    def save(self, directory: Path) -> None:
        with atomic_path(directory / RESULT_NAME) as temporary:
            temporary.write_text(json.dumps(asdict(self), sort_keys=True))

    @classmethod
    def load(cls, directory: Path) -> "TaskResult":
        content = json.loads((directory / RESULT_NAME).read_text())
        shards = [{language: ShardInfo(**info) for language, info in shard.items()} for shard in content["shards"]]
        return cls(shards=shards, dropped=content["dropped"])


class ShardSeries:
    """Writes shards 00000, 00001, … of one task, a file for each language; used as a context manager.

    A shard is closed at the first end of a document after `shard_tokens` tokens (pairs: after a batch), or within a
    document that makes it twice as large.
    """

    def __init__(self, directory: Path, languages: tuple[str, ...], vocab_size: int, shard_tokens: int) -> None:
        self.directory = directory
        self.languages = languages
        self.vocab_size = vocab_size
        self.shard_tokens = shard_tokens
        self.shards: list[dict[str, ShardInfo]] = []
        self._writers: dict[str, ShardWriter] = {}
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

    def add_sentences(self, ids: np.ndarray, lengths: np.ndarray, document_ends: np.ndarray) -> None:
        """Nothing; appends sentences of the one language, see ShardWriter.add_sequences."""
        (language,) = self.languages
        if len(lengths) == 0 and not self._writers:
            return
        if self._writer(language).num_tokens + len(ids) < self.shard_tokens:
            self._writer(language).add_sequences(ids, lengths, document_ends)
            return
        # The shard fills up somewhere in here: go document by document.
        token_ends = np.concatenate([[0], np.cumsum(lengths)])
        start = 0
        for end in map(int, document_ends):
            writer = self._writer(language)
            writer.add_sequences(ids[token_ends[start] : token_ends[end]], lengths[start:end], [end - start])
            if writer.num_tokens >= self.shard_tokens:
                self._close()
            start = end
        if start < len(lengths):
            writer = self._writer(language)
            writer.add_sequences(ids[token_ends[start] :], lengths[start:])
            if writer.num_tokens >= MAX_SHARD_OVERSHOOT * self.shard_tokens:
                self._close()

    def add_pairs(self, sides: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Nothing; appends {language: (ids, lengths)} with as many sentences on both sides."""
        if not any(len(lengths) for _, lengths in sides.values()):
            return
        for language, (ids, lengths) in sides.items():
            self._writer(language).add_sequences(ids, lengths)
        if max(writer.num_tokens for writer in self._writers.values()) >= self.shard_tokens:
            self._close()

    def _prefix(self, language: str) -> str:
        number = f"{len(self.shards):05d}"
        return number if len(self.languages) == 1 else f"{number}.{language}"

    def _writer(self, language: str) -> ShardWriter:
        if language not in self._writers:
            writer = ShardWriter(self.directory / self._prefix(language), self.vocab_size)
            self._writers[language] = self._stack.enter_context(writer)
        return self._writers[language]

    def _close(self) -> None:
        """Nothing; the open shard gets its name, the next sentences go to a new one."""
        self._stack.close()
        if self._writers:
            infos = {language: writer.info(self._prefix(language)) for language, writer in self._writers.items()}
            self.shards.append(infos)
        self._writers = {}
        self._stack = ExitStack()


def batched(items: Iterable[T], size_of: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Lists of consecutive items whose sizes add up to `limit` or, by the last item, a little more."""
    batch: list[T] = []
    size = 0
    for item in items:
        batch.append(item)
        size += size_of(item) + 1
        if size >= limit:
            yield batch
            batch = []
            size = 0
    if batch:
        yield batch


def run_task(task: Task) -> None:
    """Nothing; writes the shards of a task and its `result.json` into the task's directory, from nothing."""
    shutil.rmtree(task.directory, ignore_errors=True)
    task.directory.mkdir(parents=True)
    encoder = PieceEncoder(task.tokenizer_dir)
    dropped: Counter[str] = Counter()
    with ExitStack() as stack:
        files = [stack.enter_context(open_text(path)) for path in task.input.paths]
        shards = stack.enter_context(
            ShardSeries(task.directory, task.input.languages, encoder.vocab_size, task.shard_tokens)
        )
        report = _Report(task.directory / PROGRESS_NAME, files)
        limit = min(BATCH_CHARACTERS, task.shard_tokens)
        if len(task.input.languages) == 1:
            for lines in batched(read_sentences(task.input.format, files[0]), len, limit):
                add_sentences(lines, encoder, shards, dropped)
                report()
        else:
            pairs = read_pairs(task.input.format, files)
            for batch in batched(pairs, lambda pair: len(pair[0]) + len(pair[1]), limit):
                add_pairs(batch, encoder, shards, dropped)
                report()
    TaskResult(shards=shards.shards, dropped=dict(dropped)).save(task.directory)


def add_sentences(lines: list[str], encoder: PieceEncoder, shards: ShardSeries, dropped: Counter[str]) -> None:
    """Nothing; encodes lines of one language, empty ones ending a document, and appends them to the shards."""
    ids, lengths = encoder.encode_flat(lines)
    kept = lengths > 0
    is_end = np.fromiter((not line for line in lines), bool, len(lines))
    without_tokens = int(np.count_nonzero(~kept & ~is_end))
    if without_tokens:  # characters that normalisation removes, such as zero-width spaces
        dropped["no_tokens"] += without_tokens
    document_ends = np.cumsum(kept)[is_end]
    shards.add_sentences(ids, lengths[kept], document_ends)


def add_pairs(pairs: list[tuple[str, str]], encoder: PieceEncoder, shards: ShardSeries, dropped: Counter[str]) -> None:
    """Nothing; encodes pairs and appends those with tokens on both sides to the shards."""
    sides = [encoder.encode_flat([pair[side] for pair in pairs]) for side in (0, 1)]
    kept = (sides[0][1] > 0) & (sides[1][1] > 0)
    num_dropped = len(pairs) - int(np.count_nonzero(kept))
    if num_dropped:
        dropped["empty_side"] += num_dropped
        sides = [(ids[np.repeat(kept, lengths)], lengths[kept]) for ids, lengths in sides]
    shards.add_pairs(dict(zip(shards.languages, sides, strict=True)))


class _Report:
    """Writes how many bytes of the input were read into a file, now and then: it works across machines too."""

    def __init__(self, path: Path, files: list[TextLines]) -> None:
        self.path = path
        self.files = files
        self.next_time = time.monotonic() + PROGRESS_SECONDS

    def __call__(self) -> None:
        if time.monotonic() >= self.next_time:
            self.path.write_text(str(sum(file.num_bytes_read for file in self.files)))
            self.next_time = time.monotonic() + PROGRESS_SECONDS


def read_progress(directory: Path) -> int:
    """The bytes of its input that a running task has read, as last reported; 0 before that."""
    try:
        return int((directory / PROGRESS_NAME).read_text() or 0)
    except (FileNotFoundError, ValueError):
        return 0
