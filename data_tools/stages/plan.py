"""The plan of a data directory: its corpus cut into tasks, each identified by a key of everything that goes into it.

    DATA/plan.json          the plan, written before anything else
    DATA/.work/tasks/KEY/   the output of the task KEY; `result.json` in it is written last
    DATA/.work/PLAN/        the output of later stages, for the plan of that key

Equal keys mean equal shards. So a run that was killed continues with the missing tasks, even if the corpus, filters or
files have changed in between: only tasks with other keys are run again.

Large files are cut into several tasks where their format allows it, and small ones share a task, depending only on
their order and sizes.
"""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from data_tools.corpus.configuration import Corpus
from data_tools.corpus.inputs import Input, Part
from data_tools.files.atomic import atomic_path, left_overs_of
from data_tools.files.locations import is_url
from data_tools.readers import identity_of, parts_of, pinned, size_of
from data_tools.shards.format import ShardInfo
from data_tools.shards.manifest import MANIFEST_NAME
from data_tools.tokenizers.unknown_pieces import Unknown

# The version of plan.json, of the output of tasks, and of how text is cut into tasks: directories that another version
# has begun are started again.
PLAN_VERSION = 3

PLAN_NAME = "plan.json"
WORK_NAME = ".work"
LOGS_NAME = ".logs"
LOCK_NAME = ".lock"
TOKENIZER_NAME = "tokenizer"
WRITTEN_NAMES = (PLAN_NAME, TOKENIZER_NAME, MANIFEST_NAME)  # directly in DATA, first under temporary names
RESULT_NAME = "result.json"
KEY_LENGTH = 16
# A file that can be cut (`parts_of` of its reader) is cut into tasks of a size in this range, and small files share a
# task up to that size: enough tasks for any number of workers, but only thousands of shards for a terabyte. The size
# depends only on the corpus, and so do the shards.
MIN_PART_BYTES = 32 << 20
MAX_PART_BYTES = 1 << 30
WANTED_PARTS = 2_000
# Opening a file takes as long as reading some kilobytes, and more for remote files.
BYTES_OF_OPENING = 1 << 14


@dataclass(frozen=True)
class PlannedPart:
    """An input, or a part of it. `identity` stands for the content of the input and how it is read."""

    input: Input
    part: Part | None
    identity: str


@dataclass(frozen=True)
class PlannedTask:
    """Text of one language or pair, `num_bytes` read in the order of `parts`, that gets shards of its own."""

    key: str
    parts: tuple[PlannedPart, ...]
    num_bytes: int

    @property
    def name(self) -> str:
        """`mono/de` or `parallel/de-en`."""
        return self.parts[0].input.name

    @property
    def languages(self) -> tuple[str, ...]:
        return self.parts[0].input.languages

    @property
    def has_known_size(self) -> bool:
        return has_known_size(self.parts[0].input, self.num_bytes)  # an input of unknown size has its own task


@dataclass(frozen=True)
class TaskResult:
    """The result of a task: its shards {language: info} in order, with prefixes relative to its directory.

    `dropped` counts units by reason; by language, `words` counts the pieces that begin a word and `unknown` the unknown
    ones.
    """

    train: list[dict[str, ShardInfo]]
    valid: list[dict[str, ShardInfo]]
    dropped: dict[str, int]
    words: dict[str, int]
    unknown: dict[str, Unknown]

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
        content["unknown"] = {language: Unknown(**counts) for language, counts in content["unknown"].items()}
        return cls(**content)


@dataclass(frozen=True)
class Plan:
    """The tasks of a corpus in the order in which their shards are numbered, and where they are made."""

    output: Path
    tasks: tuple[PlannedTask, ...]
    settings: dict[str, Any]  # all that the finished directory depends on, besides the tasks

    @cached_property
    def key(self) -> str:
        """A key of everything that goes into the finished directory."""
        return _key([self.settings, [task.key for task in self.tasks]])

    @cached_property
    def names(self) -> list[str]:
        """`mono/de`, `parallel/de-en`, …, each once, in order."""
        return list(dict.fromkeys(task.name for task in self.tasks))

    @property
    def work(self) -> Path:
        """The directory of the stages after the first."""
        return self.output / WORK_NAME / self.key

    @property
    def logs(self) -> Path:
        return self.output / LOGS_NAME / self.key

    def directory(self, task: PlannedTask) -> Path:
        """The directory in which a task writes its shards."""
        return self.output / WORK_NAME / "tasks" / task.key

    def deduplicated_directory(self, task: PlannedTask) -> Path:
        """The directory in which deduplication writes the rest of a task's shards."""
        return self.work / "deduplicated" / task.key

    def save(self) -> None:
        """Write plan.json."""
        content = {"key": self.key, "settings": self.settings, "tasks": [asdict(task) for task in self.tasks]}
        with atomic_path(self.output / PLAN_NAME) as temporary:
            temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, output: Path) -> "Plan":
        """Read the plan of a directory, without its tasks if another version made it; ValueError if there is none."""
        path = output / PLAN_NAME
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            tasks = []
            if content["settings"]["version"] == PLAN_VERSION:
                for task in content["tasks"]:
                    parts = tuple(
                        PlannedPart(Input(**_tuples(part["input"])), _tuples(part["part"]), part["identity"])
                        for part in task["parts"]
                    )
                    tasks.append(PlannedTask(task["key"], parts, task["num_bytes"]))
            return cls(output, tuple(tasks), content["settings"])
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise ValueError(f"{path}: not a plan of data_tools.prepare; choose another output") from None


def _tuples(content: Any) -> Any:
    """The fields of a dataclass from its JSON, with lists turned back into tuples."""
    if isinstance(content, dict):
        return {key: _tuples(value) for key, value in content.items()}
    return tuple(map(_tuples, content)) if isinstance(content, list) else content


def make_plan(corpus: Corpus, output: Path, tokenizer_sha256: str, shard_tokens: int) -> Plan:
    """Plan the tasks of a corpus; raises the errors of looking at its files."""
    # Sorting is stable: within a language the order of the file stays.
    inputs = [pinned(item) for item in sorted(corpus.inputs, key=lambda item: item.name)]
    total_bytes = sum(map(size_of, inputs))
    part_bytes = min(MAX_PART_BYTES, max(MIN_PART_BYTES, 1 << (total_bytes // WANTED_PARTS).bit_length()))
    settings = {
        "version": PLAN_VERSION,
        "tokenizer": tokenizer_sha256,
        "shard_tokens": shard_tokens,
        "valid": corpus.valid,
        "filters": corpus.filters.identity(),
    }
    tasks = []
    times_seen: Counter[str] = Counter()
    for _, of_name in groupby(inputs, key=lambda item: item.name):
        for parts, num_bytes in tasks_of(of_name, part_bytes):
            identity = _key([settings, [[part.identity, part.part] for part in parts]])
            times_seen[identity] += 1  # so that equal files in two directories have different keys
            tasks.append(PlannedTask(_key([identity, times_seen[identity]]), tuple(parts), num_bytes))
    return Plan(output, tuple(tasks), {**settings, "deduplicate": asdict(corpus.deduplication)})


def tasks_of(inputs: Iterable[Input], part_bytes: int) -> Iterator[tuple[list[PlannedPart], int]]:
    """(parts, bytes) of each task of one language or pair: large inputs are cut, consecutive small ones are joined."""
    parts: list[PlannedPart] = []
    sizes: list[int] = []
    costs: list[float] = []
    for item in inputs:
        identity = _key([item.format, item.name, item.columns, item.split_sentences, identity_of(item)])
        for part in parts_of(item, part_bytes):
            num_bytes = planned_bytes(item, part)
            parts.append(PlannedPart(item, part, identity))
            sizes.append(num_bytes)
            costs.append(BYTES_OF_OPENING + num_bytes if has_known_size(item, num_bytes) else math.inf)
    for together in joined(costs, part_bytes):
        yield parts[together], sum(sizes[together])


def planned_bytes(item: Input, part: Part | None) -> int:
    """The bytes of an input, or of a part of it, that will be read; 0 if that is not known."""
    if part is None:
        return size_of(item)
    if item.format == "hub":  # whose parts are numbers of shards, not bytes
        return 0
    start, end = part
    return end - start


def joined(costs: Sequence[float], limit: float) -> Iterator[slice]:
    """The longest possible runs of items, in order, that cost at most `limit` together; dearer items are alone."""
    start, total = 0, 0.0
    for i, cost in enumerate(costs):
        if i > start and total + cost > limit:
            yield slice(start, i)
            start, total = i, 0.0
        total += cost
    if costs:
        yield slice(start, len(costs))


def has_known_size(item: Input, num_bytes: int) -> bool:
    """Whether `num_bytes` is the real size of an input: data sets and some servers do not report it."""
    return item.format != "hub" and (num_bytes > 0 or not any(map(is_url, item.paths)))


def plan_of(output: Path) -> Plan | None:
    """The plan that a directory was begun with, None if it is new.

    Raises ValueError for a directory with other content.
    """
    if (output / PLAN_NAME).exists():
        return Plan.load(output)
    # A run that was killed while writing its plan has left a lock and temporary files.
    ours = {LOCK_NAME, *(path.name for name in WRITTEN_NAMES for path in left_overs_of(output / name))}
    if output.exists() and (not output.is_dir() or not ours.issuperset(os.listdir(output))):
        raise ValueError(f"{output}: exists and was not made by data_tools.prepare; choose another output")
    return None


def _key(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]
