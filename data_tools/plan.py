"""The plan of a data directory: its corpus cut into tasks, each known by a key of everything that goes into it.

    DATA/plan.json          the plan, written before anything else
    DATA/.work/tasks/KEY/   what the task KEY has made; `result.json` in it is written last
    DATA/.work/PLAN/        what later stages have made of this plan

Equal keys mean equal shards. So a run that was killed goes on with what is missing, and so does one whose corpus,
filters or files were changed in between: only tasks with other keys are made anew.
"""

import hashlib
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.corpus import Corpus
from data_tools.files import atomic_path, left_overs_of
from data_tools.inputs import Input, Part
from data_tools.manifest import MANIFEST_NAME, MANIFEST_VERSION
from data_tools.readers import identity_of, parts_of, pinned, size_of
from data_tools.shards import ShardInfo

PLAN_NAME = "plan.json"
WORK_NAME = ".work"
LOGS_NAME = ".logs"
LOCK_NAME = ".lock"
TOKENIZER_NAME = "tokenizer"
WRITTEN_NAMES = (PLAN_NAME, TOKENIZER_NAME, MANIFEST_NAME)  # directly in DATA, under temporary names at first
RESULT_NAME = "result.json"
KEY_LENGTH = 16
# An uncompressed file is cut into tasks of this many bytes: many enough for any number of workers, few enough for the
# shards of a terabyte to be counted in thousands. The choice depends on the corpus alone, so its shards do too.
MIN_PART_BYTES = 32 << 20
MAX_PART_BYTES = 1 << 30
WANTED_PARTS = 2_000


@dataclass(frozen=True)
class PlannedTask:
    """One input, or a part of it, whose sentences become shards of their own. `num_bytes` of it will be read."""

    key: str
    input: Input
    part: Part | None
    num_bytes: int


@dataclass(frozen=True)
class TaskResult:
    """What became of a task: its shards {language: info} in order, with prefixes relative to its directory.

    `dropped` counts units by reason, `words` by language the pieces that begin a word.
    """

    train: list[dict[str, ShardInfo]]
    valid: list[dict[str, ShardInfo]]
    dropped: dict[str, int]
    words: dict[str, int]

    def save(self, directory: Path) -> None:
        with atomic_path(directory / RESULT_NAME) as temporary:
            temporary.write_text(json.dumps(asdict(self), sort_keys=True))

    @classmethod
    def load(cls, directory: Path) -> "TaskResult":
        content = json.loads((directory / RESULT_NAME).read_text())
        for split in ("train", "valid"):
            content[split] = [
                {language: ShardInfo(**info) for language, info in sides.items()} for sides in content[split]
            ]
        return cls(**content)


@dataclass(frozen=True)
class Plan:
    """The tasks of a corpus in the order in which their shards are numbered, and where they are made."""

    output: Path
    tasks: tuple[PlannedTask, ...]
    # Everything beside the tasks that the finished directory depends on.
    settings: dict[str, Any]

    @cached_property
    def key(self) -> str:
        """What stands for all that goes into the finished directory."""
        return _key([self.settings, [task.key for task in self.tasks]])

    @cached_property
    def names(self) -> list[str]:
        """`mono/de`, `parallel/de-en`, …, each once, in order."""
        return list(dict.fromkeys(task.input.name for task in self.tasks))

    @property
    def work(self) -> Path:
        """Where stages after the first keep what they make."""
        return self.output / WORK_NAME / self.key

    @property
    def logs(self) -> Path:
        return self.output / LOGS_NAME / self.key

    def directory(self, task: PlannedTask) -> Path:
        """Where a task makes its shards."""
        return self.output / WORK_NAME / "tasks" / task.key

    def deduplicated_directory(self, task: PlannedTask) -> Path:
        """Where deduplication puts what is left of a task's shards."""
        return self.work / "deduplicated" / task.key

    def save(self) -> None:
        """Nothing; writes plan.json."""
        tasks = [{**asdict(task), "input": asdict(task.input)} for task in self.tasks]
        content = {"key": self.key, "settings": self.settings, "tasks": tasks}
        with atomic_path(self.output / PLAN_NAME) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, output: Path) -> "Plan":
        """The plan of a directory; raises ValueError if what is there is none."""
        path = output / PLAN_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            tasks = []
            for task in content["tasks"]:
                fields: dict[str, Any] = {
                    name: tuple(value) if isinstance(value, list) else value for name, value in task["input"].items()
                }
                part = tuple(task["part"]) if task["part"] else None
                tasks.append(PlannedTask(task["key"], Input(**fields), part, task["num_bytes"]))
            return cls(output, tuple(tasks), content["settings"])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path}: not a plan of data_tools.prepare; choose another output") from None


def make_plan(corpus: Corpus, output: Path, tokenizer_sha256: str, shard_tokens: int) -> Plan:
    """The plan of a corpus; raises what looking at its files raises."""
    # Sorted, which is stable: within a language as in the file.
    inputs = [pinned(item) for item in sorted(corpus.inputs, key=lambda item: item.name)]
    total_bytes = sum(map(size_of, inputs))
    part_bytes = min(MAX_PART_BYTES, max(MIN_PART_BYTES, 1 << (total_bytes // WANTED_PARTS).bit_length()))
    settings = {
        "version": MANIFEST_VERSION,
        "tokenizer": tokenizer_sha256,
        "shard_tokens": shard_tokens,
        "valid": corpus.valid,
        "filters": corpus.filters.identity(),
    }
    tasks = []
    times_seen: Counter[str] = Counter()
    for item in inputs:
        kind = [item.format, item.name, item.columns, item.split_sentences]
        identity = _key([settings, kind, identity_of(item)])
        times_seen[identity] += 1  # equal files in two directories are two tasks
        for part in parts_of(item, part_bytes):
            num_bytes = size_of(item) if part is None else part[1] - part[0] if item.format != "hub" else 0
            tasks.append(PlannedTask(_key([identity, times_seen[identity], part]), item, part, num_bytes))
    return Plan(output, tuple(tasks), {**settings, "deduplicate": asdict(corpus.deduplication)})


def plan_of(output: Path) -> Plan | None:
    """The plan that a directory was begun with, or None if it is new.

    Raises ValueError for a directory with content of another kind.
    """
    if (output / PLAN_NAME).exists():
        return Plan.load(output)
    # A run that was killed while it wrote its plan has left a lock and files under temporary names.
    ours = {LOCK_NAME, *(path.name for name in WRITTEN_NAMES for path in left_overs_of(output / name))}
    if output.exists() and (not output.is_dir() or not ours.issuperset(os.listdir(output))):
        raise ValueError(f"{output}: exists and was not made by data_tools.prepare; choose another output")
    return None


def _key(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]
