"""Deduplication as stages of the data pipeline, between encoding and the manifest.

In brackets, what one task of a stage works on:

    minhash signatures (task of encoding) → minhash matches (language, bucket) → minhash clusters (language)
    signatures (task of encoding) → duplicates (language or pair, range of hashes)
    rewrite (task of encoding)
"""

import glob
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_tools.deduplicate.encoded import EncodedTask
from data_tools.deduplicate.exact import find_duplicates, write_signatures
from data_tools.deduplicate.minhash import (
    check_open_files,
    cluster_documents,
    match_documents,
    write_document_signatures,
)
from data_tools.deduplicate.rewrite import rewrite_task
from data_tools.deduplicate.settings import Deduplication, MinhashSettings
from data_tools.stages.executors import Stage
from data_tools.stages.plan import RESULT_NAME, Plan, PlannedTask, TaskResult
from data_tools.stages.plan_step import PlanStep, load_plan

# Bytes of text per task that looks for duplicates: small enough to share the work among many tasks.
RANGE_BYTES = 1 << 30
RANGES_OF_UNKNOWN_SIZE = 16
BUCKET_UNITS = 8_000_000  # that such a task holds in memory at once, in 40 bytes each: 320 MB


def num_ranges(plan: Plan, name: str) -> int:
    """The number of tasks that look for the duplicates of a language or pair, known before any text is read."""
    tasks = [task for task in plan.tasks if task.name == name]
    known = 1 + sum(task.num_bytes for task in tasks) // RANGE_BYTES
    return known if all(task.has_known_size for task in tasks) else max(known, RANGES_OF_UNKNOWN_SIZE)


@lru_cache(maxsize=1)  # tasks of one language follow each other
def encoded_tasks(output: Path, plan_key: str, name: str) -> tuple[tuple[EncodedTask, ...], int]:
    """(encoded tasks of a language or pair, number of buckets into which each range of its hashes is divided)."""
    plan = load_plan(output, plan_key)
    tasks, num_units = [], 0
    for rank, planned in enumerate(plan.tasks):
        if planned.name == name:
            result = TaskResult.load(plan.directory(planned))
            tasks.append(encoded_task(rank, planned, plan.directory(planned), result))
            num_units += sum(next(iter(sides.values())).num_sequences for sides in [*result.train, *result.valid])
    return tuple(tasks), 1 + num_units // (BUCKET_UNITS * num_ranges(plan, name))


def encoded_task(rank: int, planned: PlannedTask, directory: Path, result: TaskResult) -> EncodedTask:
    """The shards of task `rank` in the form that deduplication takes."""
    first = planned.languages[0]
    side = "" if len(planned.languages) == 1 else f".{first}"
    train, valid = (
        tuple(sides[first].prefix.removesuffix(side) for sides in shards) for shards in (result.train, result.valid)
    )
    return EncodedTask(
        index=rank, name=planned.name, languages=planned.languages, directory=directory, train=train, valid=valid
    )


def deduplication_stages(plan: Plan, settings: Deduplication) -> list[Stage]:
    """The stages that `settings` asks for, in order; empty if it asks for none.

    Raises ValueError for whatever would stop them, since hours of encoding come first.
    """
    if settings.minhash and glob.has_magic(str(plan.output)):
        raise ValueError(f"{plan.output}: datatrove takes *, ? and [ for globs; for minhash choose another output")
    stages = []
    names = [name for name in plan.names if name.startswith("mono/")]
    if settings.minhash and names:
        for name, num_tasks in Counter(task.name for task in plan.tasks if task.name in names).items():
            check_open_files(name, num_tasks)
        buckets = [(name, bucket) for name in names for bucket in range(settings.minhash.num_buckets)]
        ranks = [rank for rank, task in enumerate(plan.tasks) if task.name in names]
        stages += [
            Stage("minhash signatures", [DocumentSignatures(plan, settings.minhash, ranks)], len(ranks)),
            Stage("minhash matches", [Matches(plan, settings.minhash, buckets)], len(buckets)),
            Stage("minhash clusters", [Clusters(plan, settings.minhash, names)], len(names)),
        ]
    if settings.exact:
        ranges = [(name, number) for name in plan.names for number in range(num_ranges(plan, name))]
        stages += [
            Stage("signatures", [Signatures(plan, settings)], len(plan.tasks)),
            Stage("duplicates", [Duplicates(plan, ranges)], len(ranges)),
        ]
    if settings.exact or (settings.minhash and names):
        stages.append(Stage("rewrite", [Rewrite(plan, settings)], len(plan.tasks)))
    return stages


class DeduplicationStep(PlanStep):
    """A step that works on the shards that the first stage has written."""

    def encoded(self, rank: int) -> EncodedTask:
        """The shards of task `rank`."""
        planned, directory = self.task(rank), self.plan.directory(self.task(rank))
        return encoded_task(rank, planned, directory, TaskResult.load(directory))

    def encoded_of(self, name: str) -> tuple[EncodedTask, ...]:
        """The shards of all tasks of a language or pair."""
        return encoded_tasks(self.output, self.plan_key, name)[0]

    def buckets_of_range(self, name: str) -> int:
        """The number of buckets into which each range of the hashes of a language or pair is divided."""
        return encoded_tasks(self.output, self.plan_key, name)[1]


class DocumentSignatures(DeduplicationStep):
    """The MinHash signatures of the documents of one task; rank r is task `ranks[r]`."""

    name = "minhash signatures"

    def __init__(self, plan: Plan, settings: MinhashSettings, ranks: list[int]) -> None:
        super().__init__(plan)
        self.settings = settings
        self.ranks = ranks

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        task = self.encoded(self.ranks[rank])
        write_document_signatures(task, self.plan.work / task.name, self.settings, self.encoder.special.unk)


class Matches(DeduplicationStep):
    """The pairs of documents that agree in one bucket; rank r is bucket `buckets[r]` of a language."""

    name = "minhash matches"

    def __init__(self, plan: Plan, settings: MinhashSettings, buckets: list[tuple[str, int]]) -> None:
        super().__init__(plan)
        self.settings = settings
        self.buckets = buckets

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        name, bucket = self.buckets[rank]
        match_documents(self.encoded_of(name), self.plan.work / name, bucket, self.settings)


class Clusters(DeduplicationStep):
    """The documents of a language to remove; rank r is language `names[r]`."""

    name = "minhash clusters"

    def __init__(self, plan: Plan, settings: MinhashSettings, names: list[str]) -> None:
        super().__init__(plan)
        self.settings = settings
        self.names = names

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        name = self.names[rank]
        cluster_documents(self.encoded_of(name), self.plan.work / name, self.settings)


class Signatures(DeduplicationStep):
    """The hashes of the units of one task."""

    name = "signatures"

    def __init__(self, plan: Plan, settings: Deduplication) -> None:
        super().__init__(plan)
        self.settings = settings

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        task = self.encoded(rank)
        write_signatures(task, self.plan.work / task.name, self.settings, self.encoder.special.unk)


class Duplicates(DeduplicationStep):
    """The repeated units of one range of hashes, bucket by bucket; rank r is `ranges[r]` of a language or pair."""

    name = "duplicates"

    def __init__(self, plan: Plan, ranges: list[tuple[str, int]]) -> None:
        super().__init__(plan)
        self.ranges = ranges

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        name, number = self.ranges[rank]
        per_range = self.buckets_of_range(name)
        num_buckets = per_range * num_ranges(self.plan, name)
        for bucket in range(number * per_range, (number + 1) * per_range):
            find_duplicates(self.encoded_of(name), self.plan.work / name, bucket, num_buckets)


class Rewrite(DeduplicationStep):
    """The shards of one task without its duplicates, in a directory of their own; `result.json` is written last."""

    name = "rewrite"

    def __init__(self, plan: Plan, settings: Deduplication) -> None:
        super().__init__(plan)
        self.settings = settings

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        plan, planned = self.plan, self.task(rank)
        output = plan.deduplicated_directory(planned)
        if (output / RESULT_NAME).exists():
            return
        task = self.encoded(rank)
        buckets = self.buckets_of_range(task.name) * num_ranges(plan, task.name) if self.settings.exact else 0
        table, special = self.encoder.table, self.encoder.special
        rewritten = rewrite_task(task, plan.work / task.name, self.settings, buckets, output, table, special)
        dropped = TaskResult.load(plan.directory(planned)).dropped | rewritten.dropped
        result = TaskResult(
            train=rewritten.shards["train"],
            valid=rewritten.shards["valid"],
            dropped=dropped,
            words=rewritten.words,
            unknown=rewritten.unknown,
        )
        output.mkdir(parents=True, exist_ok=True)
        result.save(output)
