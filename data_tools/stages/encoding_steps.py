"""The steps of datatrove that turn the text of one task into shards; rank r is task r of the plan.

ReadText → HoldOut → FilterText → EncodeText → FilterTokens → WriteShards, with batches flowing between them.
"""

import hashlib
import shutil
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from data_tools.shards.series import ShardSeries
from data_tools.stages.plan import RESULT_NAME, Plan, TaskResult
from data_tools.stages.plan_step import PlanStep
from data_tools.stages.task_reader import TaskReader
from data_tools.stages.text_batches import SplitName, TextBatch, TokenBatch, TokenSide
from data_tools.text.filters import Filters, TextFilter, TokenFilter
from data_tools.text.passages import passage_ends
from data_tools.tokenizers.encoder import Encoder
from data_tools.tokenizers.unknown_pieces import Unknown

T = TypeVar("T")
PROGRESS_NAME = "progress"
PROGRESS_SECONDS = 0.5
BATCH_CHARACTERS = 1 << 20  # encoded at once: large enough for the overhead of calls, small enough for memory
HASH_BITS = 64
MAX_DOCUMENT_LINES = 256  # longer text has no documents, or ones long enough to hold out passages of them


class ReadText(PlanStep):
    """Yields the documents or pairs of a task in batches; reports the number of bytes read in a file."""

    name = "read"

    def __init__(self, plan: Plan, batch_characters: int) -> None:
        super().__init__(plan)
        self.batch_characters = batch_characters

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[TextBatch]:
        """The batches of task `rank`; raises the errors of TaskReader."""
        task = self.task(rank)
        report = _Report(self.plan.directory(task) / PROGRESS_NAME)
        reader = TaskReader(task)
        make_batches = document_batches if len(task.languages) == 1 else pair_batches
        for batch in make_batches(reader, self.batch_characters):
            self.stat_update("units", value=len(batch), unit="batch")
            yield replace(batch, dropped=batch.dropped + reader.dropped)
            reader.dropped.clear()
            report(reader.num_bytes_read)
        if reader.dropped:  # after the last unit
            yield TextBatch(tuple([] for _ in task.languages), np.zeros(0, np.int64), reader.dropped.copy())


def batched(items: Iterable[T], size_of: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Lists of consecutive items, each list ending with the item that brings its size to `limit` or above."""
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


def document_batches(reader: TaskReader, batch_characters: int) -> Iterator[TextBatch]:
    """Batches of whole documents of one language."""
    documents = reader.documents()
    for batch in batched(documents, lambda document: sum(map(len, document)) + len(document), batch_characters):
        lines = [line for document in batch for line in document]
        ends = np.cumsum(np.fromiter(map(len, batch), np.int64, len(batch)))
        yield TextBatch((lines,), ends[np.diff(ends, prepend=0) > 0])


def pair_batches(reader: TaskReader, batch_characters: int) -> Iterator[TextBatch]:
    """Batches of sentence pairs."""
    for batch in batched(reader.pairs(), lambda pair: len(pair[0]) + len(pair[1]), batch_characters):
        sources, targets = zip(*batch, strict=True)
        yield TextBatch((list(sources), list(targets)), np.arange(1, len(batch) + 1))


class HoldOut(PlanStep):
    """Puts a share of the documents and pairs into the split `valid`, by a hash of their text.

    The split depends only on the document's text, so it stays the same when the corpus grows or is shuffled, filtered
    or tokenised differently, and all copies of a document are in one split, even if they differ in Unicode form or
    white space. In text without documents, and in very long documents, passages are held out.
    """

    name = "hold out"

    def __init__(self, plan: Plan, share: float) -> None:
        super().__init__(plan)
        self.share = share

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[TextBatch]:
        """Batches of one split each, cut where the split changes."""
        limit = int(self.share * (1 << HASH_BITS))
        for batch in data:
            pieces = list(draw_lots(batch, limit))
            if not any(is_held_out for _, is_held_out in pieces):
                yield batch
                continue
            dropped = batch.dropped
            start = 0
            for is_held_out, group in groupby(pieces, key=lambda piece: piece[1]):
                ends = np.array([end for end, _ in group])
                sides = tuple(side[start : ends[-1]] for side in batch.sides)
                split: SplitName = "valid" if is_held_out else "train"
                yield TextBatch(sides, ends - start, dropped, split)
                dropped = Counter()  # counted with the first piece
                start = int(ends[-1])


def draw_lots(batch: TextBatch, limit: int) -> Iterator[tuple[int, bool]]:
    """(end, whether it is held out) of each document of a batch, or of each run of a long document in one split."""
    start = 0
    for document in batch.documents():
        lines = document[0]
        ends = [len(lines)] if len(lines) <= MAX_DOCUMENT_LINES else passage_ends(lines)
        bounds = pairwise([0, *ends])
        lots = ((stop, text_hash(tuple(side[begin:stop] for side in document)) < limit) for begin, stop in bounds)
        for is_held_out, group in groupby(lots, key=lambda lot: lot[1]):
            yield start + max(stop for stop, _ in group), is_held_out
        start += len(lines)


def text_hash(document: tuple[list[str], ...]) -> int:
    """A 64-bit hash of a document's sentences, or of a pair's, after NFKC and with white space collapsed."""
    text = "\t".join(" ".join("\n".join(side).split()) for side in document)
    digest = hashlib.blake2b(unicodedata.normalize("NFKC", text).encode(), digest_size=HASH_BITS // 8)
    return int.from_bytes(digest.digest(), "big")


class FilterText(PlanStep):
    """Drops the units that the text filters reject."""

    name = "filter text"

    def __init__(self, plan: Plan, filters: Filters) -> None:
        super().__init__(plan)
        self.filters = filters

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[TextBatch]:
        """Each batch without the units that a filter drops."""
        filter_batch = TextFilter(self.filters, self.task(rank).languages)
        for batch in data:
            yield filter_batch(batch)


class EncodeText(PlanStep):
    """Encodes text; units without tokens on a side are dropped."""

    name = "encode"

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[TokenBatch]:
        """The ids of each batch."""
        encoder = self.encoder
        # Normalisation removes some characters, such as zero-width spaces, which may leave nothing.
        reason = "no_tokens" if len(self.task(rank).languages) == 1 else "empty_side"
        for batch in data:
            sides = tuple(encode_side(encoder, side) for side in batch.sides)
            tokens = TokenBatch(sides, batch.document_ends, batch.dropped, batch.split)
            self.stat_update("tokens", value=sum(len(side.ids) for side in sides), unit="batch")
            yield tokens.keep(np.logical_and.reduce([side.lengths > 0 for side in sides]), reason)


def encode_side(encoder: Encoder, lines: list[str]) -> TokenSide:
    """The ids of lines, with the records of the unknown ones."""
    ids, lengths = encoder.encode_flat(lines)
    return TokenSide(ids, lengths, encoder.special, encoder.unknown_records(lines, ids, lengths))


class FilterTokens(PlanStep):
    """Drops the units that the length filters reject."""

    name = "filter tokens"

    def __init__(self, plan: Plan, filters: Filters) -> None:
        super().__init__(plan)
        self.filters = filters

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[TokenBatch]:
        """Each batch without the units that a filter drops."""
        filter_batch = TokenFilter(self.filters)
        for batch in data:
            yield filter_batch(batch)


class WriteShards(PlanStep):
    """Writes the shards of a task to its directory, then `result.json`; does nothing if that exists."""

    name = "write shards"

    def __init__(self, plan: Plan, shard_tokens: int) -> None:
        super().__init__(plan)
        self.shard_tokens = shard_tokens

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Write the shards of task `rank`, replacing those of an unfinished earlier run."""
        task = self.task(rank)
        directory = self.plan.directory(task)
        if (directory / RESULT_NAME).exists():
            return
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        encoder = self.encoder
        dropped: Counter[str] = Counter()
        words = dict.fromkeys(task.languages, 0)
        unknown = dict.fromkeys(task.languages, Unknown())
        with ExitStack() as stack:
            series = {
                split: stack.enter_context(
                    ShardSeries(directory / split, task.languages, encoder.vocab_size, self.shard_tokens)
                )
                for split in ("train", "valid")
            }
            for batch in data:
                series[batch.split].add(batch)
                dropped.update(batch.dropped)
                for language, side in zip(task.languages, batch.sides, strict=True):
                    words[language] += encoder.table.num_words(side.ids, len(side.lengths))
                    unknown[language] += encoder.table.unknown(side.ids, side.unknown)
        TaskResult(
            train=series["train"].infos,
            valid=series["valid"].infos,
            dropped=dict(dropped),
            words=words,
            unknown=unknown,
        ).save(directory)


class _Report:
    """Writes the number of bytes read to a file from time to time, which also works across machines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.next_time = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, num_bytes: int) -> None:
        if time.monotonic() >= self.next_time:
            self.path.write_text(str(num_bytes))
            self.next_time = time.monotonic() + PROGRESS_SECONDS


def read_progress(directory: Path) -> int:
    """The bytes of its input that a running task has last reported to have read; 0 before its first report."""
    try:
        return int((directory / PROGRESS_NAME).read_text() or 0)
    except (FileNotFoundError, ValueError):
        return 0
