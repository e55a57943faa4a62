"""Deduplication as stages of the data pipeline, between encoding and the manifest.

minhash signatures (a task of encoding each) → matches (language, bucket) → clusters (language)
signatures (a task of encoding each) → duplicates (language or pair, bucket)
rewrite (a task of encoding each)
"""

from typing import Any

from data_tools.deduplicate.encoded import EncodedTask
from data_tools.deduplicate.exact import find_duplicates, write_signatures
from data_tools.deduplicate.minhash import cluster_documents, match_documents, write_document_signatures
from data_tools.deduplicate.rewrite import rewrite_task
from data_tools.deduplicate.settings import Deduplication, MinhashSettings
from data_tools.executors import Stage
from data_tools.plan import RESULT_NAME, Plan, PlannedTask, TaskResult
from data_tools.steps import PlanStep

# A bucket of hashes is what one task holds in memory: 40 bytes for each sentence, so for this much text of short
# sentences, four times compressed, 300 MB.
BUCKET_BYTES = 64 << 20
BUCKETS_OF_UNKNOWN_SIZE = 64


def num_buckets(plan: Plan, name: str) -> int:
    """Into how many buckets the hashes of a language or pair are divided."""
    inputs = [task for task in plan.tasks if task.input.name == name]
    known = 1 + sum(task.num_bytes for task in inputs) // BUCKET_BYTES
    return max(known, BUCKETS_OF_UNKNOWN_SIZE) if any(task.num_bytes == 0 for task in inputs) else known


def deduplication_stages(plan: Plan, settings: Deduplication) -> list[Stage]:
    """The stages that `settings` asks for, in order; none if it asks for nothing."""
    stages = []
    names = [name for name in plan.names if name.startswith("mono/")]
    if settings.minhash and names:
        buckets = [(name, bucket) for name in names for bucket in range(settings.minhash.num_buckets)]
        ranks = [rank for rank, task in enumerate(plan.tasks) if task.input.name in names]
        stages += [
            Stage("minhash signatures", [DocumentSignatures(plan, settings.minhash, ranks)], len(ranks)),
            Stage("minhash matches", [Matches(plan, settings.minhash, buckets)], len(buckets)),
            Stage("minhash clusters", [Clusters(plan, settings.minhash, names)], len(names)),
        ]
    if settings.exact:
        buckets = [(name, bucket) for name in plan.names for bucket in range(num_buckets(plan, name))]
        stages += [
            Stage("signatures", [Signatures(plan, settings)], len(plan.tasks)),
            Stage("duplicates", [Duplicates(plan, buckets)], len(buckets)),
        ]
    if settings.exact or (settings.minhash and names):
        stages.append(Stage("rewrite", [Rewrite(plan, settings)], len(plan.tasks)))
    return stages


class DeduplicationStep(PlanStep):
    """A step that works on what the first stage has made."""

    def encoded(self, rank: int) -> EncodedTask:
        """The shards of task `rank`."""
        task, directory = self.task(rank), self.plan.directory(self.task(rank))
        result = TaskResult.load(directory)
        prefixes = {
            split: tuple(next(iter(sides.values())).prefix.removesuffix(_side_of(task, sides)) for sides in shards)
            for split, shards in (("train", result.train), ("valid", result.valid))
        }
        return EncodedTask(rank, task.input.name, task.input.languages, directory, **prefixes)

    def encoded_of(self, name: str) -> list[EncodedTask]:
        """The shards of all tasks of a language or pair."""
        return [self.encoded(rank) for rank, task in enumerate(self.plan.tasks) if task.input.name == name]


def _side_of(task: PlannedTask, sides: dict[str, Any]) -> str:
    """What the prefix of the first side of a pair ends with."""
    return "" if len(task.input.languages) == 1 else f".{next(iter(sides))}"


class DocumentSignatures(DeduplicationStep):
    """The MinHash signatures of the documents of one task; rank r is task `ranks[r]`."""

    name = "minhash signatures"

    def __init__(self, plan: Plan, settings: MinhashSettings, ranks: list[int]) -> None:
        super().__init__(plan)
        self.settings = settings
        self.ranks = ranks

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        task = self.encoded(self.ranks[rank])
        write_document_signatures(task, self.plan.work / task.name, self.settings)


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
    """Which documents of a language go; rank r is language `names[r]`."""

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
        write_signatures(task, self.plan.work / task.name, self.settings)


class Duplicates(DeduplicationStep):
    """The repeated units of one bucket; rank r is bucket `buckets[r]` of a language or pair."""

    name = "duplicates"

    def __init__(self, plan: Plan, buckets: list[tuple[str, int]]) -> None:
        super().__init__(plan)
        self.buckets = buckets

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        name, bucket = self.buckets[rank]
        find_duplicates(self.encoded_of(name), self.plan.work / name, bucket, num_buckets(self.plan, name))


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
        buckets = num_buckets(plan, task.name)
        rewritten = rewrite_task(task, plan.work / task.name, self.settings, buckets, output, self.encoder.starts_word)
        dropped = TaskResult.load(plan.directory(planned)).dropped | rewritten.dropped
        result = TaskResult(rewritten.shards["train"], rewritten.shards["valid"], dropped, rewritten.words)
        output.mkdir(parents=True, exist_ok=True)
        result.save(output)
