"""Raw text to verified token shards: `python -m data_tools.prepare CORPUS.yaml --output DATA`.

The inputs of CORPUS.yaml become tasks (see data_tools.tasks); an executor runs those that are not done yet; then their
shards move to their final names, numbered in the order of the tasks, and the manifest is written last:

    DATA/plan.json          what this directory is made from; another corpus needs another directory
    DATA/.tasks/KEY/        shards of a task while the run lasts
    DATA/tokenizer/         copy of the tokenizer
    DATA/mono/de/00000.{bin,idx}, DATA/parallel/de-en/00000.{de,en}.{bin,idx}
    DATA/manifest.json

A run that was killed goes on with what is missing. All bytes depend on text, tokenizer and --shard-tokens only, not on
the number of workers or on who was killed when.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from data_tools.cli import progress_bar, run_main
from data_tools.corpus import Corpus
from data_tools.describe import print_tables
from data_tools.executors import run_local
from data_tools.files import atomic_directory, atomic_path, sha256_of
from data_tools.shards import MANIFEST_NAME, MANIFEST_VERSION, Manifest, ShardInfo, shard_path
from data_tools.tasks import RESULT_NAME, Task, TaskResult, read_progress, run_task
from data_tools.tokenizer import PieceEncoder

V = TypeVar("V")
PLAN_NAME = "plan.json"
TASKS_NAME = ".tasks"
LOCK_NAME = ".lock"
TOKENIZER_NAME = "tokenizer"
# Files up to this size are known by their content, so that a copy or a touched file is the same input; larger ones by
# size and time of change, because reading a corpus twice is too slow.
MAX_HASHED_BYTES = 64 << 20
KEY_LENGTH = 16
# A tokenizer may lie in the directory of a whole model, whose weights are no business of a data directory.
WEIGHT_PATTERNS = ("*.safetensors", "*.bin", "*.pt", "*.h5", "*.msgpack", "*.onnx", "onnx", ".git", ".cache")
DEFAULT_SHARD_TOKENS = 100_000_000
MEGABYTE = 1_000_000
EXECUTORS = ("local",)


@dataclass(frozen=True)
class PlannedTask:
    """A task and the key that says what goes into it; equal keys mean equal shards."""

    key: str
    task: Task
    num_bytes: int


def file_identity(path: Path) -> list[str | int]:
    """What stands for the content of a file in a plan: name, size, and a hash or the time of its last change."""
    status = path.stat()
    if status.st_size <= MAX_HASHED_BYTES:
        return [path.name, status.st_size, sha256_of(path)]
    return [path.name, status.st_size, status.st_mtime_ns]


def make_plan(corpus: Corpus, output: Path, tokenizer_sha256: str, shard_tokens: int) -> list[PlannedTask]:
    """The tasks of a corpus, in the order in which their shards are numbered."""
    planned = []
    times_seen: Counter[str] = Counter()
    for item in sorted(corpus.inputs, key=lambda item: item.name):  # stable: within a language as in the file
        content = [MANIFEST_VERSION, tokenizer_sha256, shard_tokens, item.name, item.format]
        identity = json.dumps([*content, *map(file_identity, item.paths)])
        # Equal files in two directories are two tasks.
        times_seen[identity] += 1
        key = hashlib.sha256(f"{identity} {times_seen[identity]}".encode()).hexdigest()[:KEY_LENGTH]
        task = Task(
            input=item,
            directory=output / TASKS_NAME / key,
            tokenizer_dir=output / TOKENIZER_NAME,
            shard_tokens=shard_tokens,
        )
        num_bytes = sum(path.stat().st_size for path in item.paths)
        planned.append(PlannedTask(key=key, task=task, num_bytes=num_bytes))
    return planned


def plan_keys(output: Path) -> list[str] | None:
    """The keys of the plan that a directory was begun with, or None if it is new.

    Raises ValueError for a directory with content of another kind.
    """
    path = output / PLAN_NAME
    if not path.exists():
        if output.exists() and (not output.is_dir() or any(name != LOCK_NAME for name in os.listdir(output))):
            raise ValueError(f"{output}: exists and was not made by data_tools.prepare; choose another output")
        return None
    try:
        return [str(task["key"]) for task in json.loads(path.read_text(encoding="utf-8"))["tasks"]]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise ValueError(f"{path}: not a plan of data_tools.prepare; choose another output") from None


def save_plan(output: Path, plan: list[PlannedTask]) -> None:
    """Nothing; writes plan.json. Only the keys are read back; names and paths are for people."""
    tasks = [
        {"key": item.key, "name": item.task.input.name, "files": [str(path) for path in item.task.input.paths]}
        for item in plan
    ]
    with atomic_path(output / PLAN_NAME) as temporary:
        temporary.write_text(json.dumps({"tasks": tasks}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Nothing; while it lasts no other prepare works on the directory. Raises ValueError if one does."""
    output.mkdir(parents=True, exist_ok=True)
    with open(output / LOCK_NAME, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{output}: another data_tools.prepare is at work in this directory") from None
        yield


def begin(output: Path, plan: list[PlannedTask], corpus: Corpus, tokenizer_sha256: str) -> None:
    """Nothing; makes the directory ready for the tasks of a plan, keeping those that are done.

    Raises ValueError if shards of another plan have their final names already.
    """
    keys = [item.key for item in plan]
    begun = plan_keys(output)
    if begun is not None and begun != keys and any((output / name).exists() for name in ("mono", "parallel")):
        raise ValueError(
            f"{output}: made from another corpus, tokenizer or --shard-tokens (see {output / PLAN_NAME}); "
            "choose another output or remove it"
        )
    save_plan(output, plan)
    tokenizer = output / TOKENIZER_NAME
    if not tokenizer.exists() or PieceEncoder(tokenizer).tokenizer_sha256 != tokenizer_sha256:
        with atomic_directory(tokenizer, overwrite=True) as temporary:
            ignored = shutil.ignore_patterns(*WEIGHT_PATTERNS)
            shutil.copytree(corpus.tokenizer, temporary, ignore=ignored, dirs_exist_ok=True)
    for left_over in (output / TASKS_NAME).glob("*"):
        if left_over.name not in keys:
            shutil.rmtree(left_over)


def run_tasks(plan: list[PlannedTask], num_workers: int) -> None:
    """Nothing; runs the tasks that are not done yet, with a progress bar over the bytes of their inputs."""
    done_bytes = {item.key: item.num_bytes for item in plan if (item.task.directory / RESULT_NAME).exists()}
    missing = [item for item in plan if item.key not in done_bytes]
    # The largest first: a large file that comes last would keep one worker busy while the others have nothing to do.
    missing.sort(key=lambda item: -item.num_bytes)
    total = sum(item.num_bytes for item in plan)
    with progress_bar() as progress:
        bar = progress.add_task(f"{len(plan):,} inputs", total=max(1, total // MEGABYTE), unit="MB")

        def poll() -> None:
            running = sum(read_progress(item.task.directory) for item in missing if item.key not in done_bytes)
            progress.update(bar, completed=(sum(done_bytes.values()) + running) // MEGABYTE)

        def done(task: Task) -> None:
            item = next(item for item in missing if item.task is task)
            done_bytes[item.key] = item.num_bytes

        run_local(run_task, [item.task for item in missing], num_workers, done, poll)
        progress.update(bar, completed=max(1, total // MEGABYTE))


def finish(output: Path, plan: list[PlannedTask], encoder: PieceEncoder) -> Manifest:
    """The manifest, after the shards of all tasks have got their final names; it can be repeated after a kill.

    Raises ValueError for a language without any sentence.
    """
    results = [(item.task, TaskResult.load(item.task.directory)) for item in plan]
    names = list(dict.fromkeys(task.input.name for task, _ in results))
    dropped: dict[str, Counter[str]] = {}
    shards: dict[str, list[dict[str, ShardInfo]]] = {name: [] for name in names}
    moves: list[tuple[Path, Path]] = []
    for task, result in results:
        name = task.input.name
        if result.dropped:
            dropped.setdefault(name, Counter()).update(result.dropped)
        for sides in result.shards:
            renamed = {}
            for language, info in sides.items():
                number = f"{len(shards[name]):05d}"
                prefix = f"{name}/{number}" if len(sides) == 1 else f"{name}/{number}.{language}"
                moves.append((task.directory / info.prefix, output / prefix))
                renamed[language] = replace(info, prefix=prefix)
            shards[name].append(renamed)
    for name in names:
        if not shards[name]:
            files = ", ".join(str(path) for task, _ in results if task.input.name == name for path in task.input.paths)
            raise ValueError(f"{name}: not one sentence in {files}; leave the language out or give it text")
    for source, target in moves:
        target.parent.mkdir(parents=True, exist_ok=True)
        for suffix in ("bin", "idx"):
            if shard_path(source, suffix).exists():  # else an earlier run that was killed has moved it
                os.replace(shard_path(source, suffix), shard_path(target, suffix))
            elif not shard_path(target, suffix).exists():
                raise ValueError(f"{shard_path(target, suffix)}: has gone; remove {output} and prepare again")
    manifest = Manifest(
        version=MANIFEST_VERSION,
        tokenizer_sha256=encoder.tokenizer_sha256,
        vocab_size=encoder.vocab_size,
        mono=_of_kind("mono", {name: [next(iter(sides.values())) for sides in shards[name]] for name in names}),
        parallel=_of_kind("parallel", shards),
        dropped={name: dict(counts) for name, counts in dropped.items()},
    )
    manifest.save(output)
    shutil.rmtree(output / TASKS_NAME, ignore_errors=True)
    return manifest


def _of_kind(kind: str, by_name: dict[str, V]) -> dict[str, V]:
    """The entries `kind/language`, by language."""
    prefix = f"{kind}/"
    return {name.removeprefix(prefix): value for name, value in by_name.items() if name.startswith(prefix)}


def prepare(corpus: Corpus, output: Path, num_workers: int, shard_tokens: int) -> tuple[Manifest, bool]:
    """The manifest of the finished directory, and whether there was anything to do."""
    encoder = PieceEncoder(corpus.tokenizer)
    plan = make_plan(corpus, output, encoder.tokenizer_sha256, shard_tokens)
    plan_keys(output)  # refuses a foreign directory before anything is written to it
    with locked(output):
        if (output / MANIFEST_NAME).exists() and plan_keys(output) == [item.key for item in plan]:
            shutil.rmtree(output / TASKS_NAME, ignore_errors=True)
            return Manifest.load(output), False
        begin(output, plan, corpus, encoder.tokenizer_sha256)
        run_tasks(plan, num_workers)
        return finish(output, plan, encoder), True


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m data_tools.prepare",
        description="Tokenises the text named in CORPUS.yaml into memory-mapped shards. Started again after a kill it "
        "does only what is missing; on a finished directory it does nothing.",
    )
    parser.add_argument("corpus", type=Path, metavar="CORPUS.yaml", help="see data_tools/corpus.py for its form")
    parser.add_argument("--output", type=Path, required=True, metavar="DATA", help="the data directory to make")
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="processes, each with one input at a time (default: the cores, here %(default)s)",
    )
    parser.add_argument(
        "--executor", choices=EXECUTORS, default="local", help="who runs the tasks (default %(default)s)"
    )
    parser.add_argument(
        "--shard-tokens",
        type=int,
        default=DEFAULT_SHARD_TOKENS,
        metavar="N",
        help="begin a new shard after so many tokens (default %(default)s)",
    )
    return parser.parse_args()


def main() -> None:
    """Nothing; the command line."""
    options = parse_arguments()
    for name in ("workers", "shard_tokens"):
        value = vars(options)[name]
        if value < 1:
            raise ValueError(f"--{name.replace('_', '-')} {value}: expected at least 1")
    start = time.monotonic()
    corpus = Corpus.load(options.corpus)
    manifest, was_work = prepare(corpus, options.output, options.workers, options.shard_tokens)
    num_tokens = print_tables(manifest)
    seconds = time.monotonic() - start
    if was_work:
        print(f"{options.output}: {num_tokens:,} tokens, {seconds:.1f} s, {num_tokens / seconds:,.0f} tokens/s")
    else:
        print(f"{options.output}: complete already, {num_tokens:,} tokens; nothing to do")


if __name__ == "__main__":
    run_main(main)
