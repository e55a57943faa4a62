"""Who runs the tasks of a stage: processes of this machine, a Slurm cluster or a Ray cluster, all through datatrove.

A task is a pure function of what lies on disk, and what it has finished lies on disk: no executor carries results, and
a run that was killed can go on with what is missing. datatrove keeps a log, statistics and a mark for each finished
task in the stage's directory of logs.
"""

import contextlib
import errno
import math
import multiprocessing
import os
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger
from datatrove.utils.stats import PipelineStats, Stats
from rich.console import Console
from rich.progress import Progress

from data_tools.cli import SeveralErrors, first_of, problems_of, progress_bar
from data_tools.files.atomic import named_errors

T = TypeVar("T")
POLL_SECONDS = 0.5
ERRORS_NAME = "errors"
MEGABYTE = 1_000_000
RAY_MEMORY_GB = 1
# Errors of the machine and not of one task's input: all other tasks would meet them too, after hours of work perhaps.
ERRORS_OF_ALL = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
)


@dataclass(frozen=True)
class Stage:
    """Steps to run for each rank in range(num_tasks); a stage begins when the one before is done.

    `num_bytes` says what each task will read, for the order and the progress bar, and `bytes_read(rank)` how far it is.
    """

    name: str
    steps: Sequence[PipelineStep]
    num_tasks: int
    num_bytes: Sequence[int] = ()
    bytes_read: Callable[[int], int] = lambda rank: 0

    def logs_in(self, logs: Path) -> str:
        """Its own directory among the logs; without a space, as it stands in Slurm's scripts unquoted."""
        return str(logs / self.name.replace(" ", "-"))


@dataclass(frozen=True)
class SlurmOptions:
    """What `sbatch` is asked for. `time` as Slurm writes it; `setup` is a shell command that makes Python ready."""

    partition: str
    time: str
    memory_gb: int
    setup: str
    arguments: dict[str, str]


class RecordsErrors(PipelineExecutor):
    """An executor that leaves the message of a failed task in the directory of logs, where others find it."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> PipelineStats:
        note = Path(self.logging_dir.resolve_paths(f"{ERRORS_NAME}/{rank:05d}"))
        try:
            stats = super()._run_for_rank(rank, local_rank, node_rank)
        except (ValueError, OSError) as error:
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text("\n".join(problems_of(error)), encoding="utf-8")
            raise
        note.unlink(missing_ok=True)
        return stats


class LocalExecutor(LocalPipelineExecutor):
    """Processes of this machine. datatrove's pool waits for ever when a worker dies; this one tells and ends."""

    def __init__(self, stage: Stage, num_workers: int, logs: Path, progress: Progress) -> None:
        super().__init__(list(stage.steps), stage.num_tasks, num_workers, logging_dir=stage.logs_in(logs))
        self.stage = stage
        self.progress = progress

    def run(self) -> None:
        """Run the tasks that are not done, the largest first, with a bar of their own in the progress display.

        A large task that comes last would keep one worker busy while the others have nothing to do. Failures are told
        as they come and raised as a number; one that stays alone is raised only. Other errors are `run_local`'s.
        """
        stage = self.stage
        in_bytes = sum(stage.num_bytes) > 0
        weights = stage.num_bytes if in_bytes else [1] * self.tasks
        per_unit, unit = (MEGABYTE, "MB") if in_bytes else (1, "tasks")
        bar = self.progress.add_task(stage.name, total=max(1, sum(weights) // per_unit), unit=unit)
        missing = sorted(self.get_incomplete_ranks(), key=lambda rank: -(weights[rank] or math.inf))  # 0: unknown
        done = sum(weights) - sum(weights[rank] for rank in missing)

        def on_done(rank: int) -> None:
            nonlocal done
            done += weights[rank]

        def on_poll(running: Sequence[int]) -> None:
            self.progress.update(bar, completed=(done + sum(map(stage.bytes_read, running))) // per_unit)

        failures = _Failures(self.progress.console)
        run_rank = RunRank(LocalPipelineExecutor(self.pipeline, self.tasks, logging_dir=self.logging_dir))
        try:
            run_local(run_rank, missing, self.workers, on_done, on_poll, on_failed=failures.add)
        except TasksFailed as error:
            if len(error.problems) == 1:
                raise
            what = "inputs" if in_bytes else "tasks"
            raise ValueError(f"{len(error.problems):,} {what} failed (see above)") from None
        except BaseException as error:
            failures.tell()
            if isinstance(error, ChildProcessError):
                raise ChildProcessError(f"{stage.name}: {error}") from None
            raise
        self.progress.update(bar, completed=max(1, sum(weights) // per_unit))


class _Failures:
    """Tells failures, a line each; the first not before there is a second, since alone it is the error at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_alone = True
        self._waiting: list[str] = []

    def add(self, rank: int, problem: str) -> None:
        self._is_alone = self._is_alone and not self._waiting
        self._waiting.append(problem)
        if not self._is_alone:
            self.tell()

    def tell(self) -> None:
        """Print what has not been printed yet."""
        for problem in self._waiting:
            self._console.print(f"failed: {problem}", markup=False, highlight=False, soft_wrap=True)
        self._waiting.clear()


@dataclass(frozen=True)
class RunRank:
    """Runs one task of an executor in a worker process; what datatrove says of it goes to its log alone."""

    executor: LocalPipelineExecutor

    def __call__(self, rank: int) -> None:
        executor = copy(self.executor)
        executor.pipeline = [with_own_statistics(step) for step in executor.pipeline]
        logs = self.executor.logging_dir.path
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), named_errors(logs):
            executor._run_for_rank(rank)


def with_own_statistics(step: PipelineStep) -> PipelineStep:
    """A step that shares everything with `step` but what it counts: of one task, not of those before it."""
    copied = copy(step)
    copied.stats = Stats(str(step))
    return copied


def run_locally(stages: Sequence[Stage], logs: Path, num_workers: int) -> None:
    """Run all stages on this machine; raises the errors of the first stage in which tasks fail."""
    with progress_bar() as progress:
        for stage in stages:
            LocalExecutor(stage, num_workers, logs, progress).run()


class SlurmExecutor(RecordsErrors, SlurmPipelineExecutor):
    """A Slurm job array; see datatrove."""


class RayExecutor(RecordsErrors, RayPipelineExecutor):
    """Tasks of a Ray cluster; see datatrove."""

    def run(self) -> None:
        """Run the tasks that are not done. Raises ValueError with the errors of those that fail."""
        super().run()
        missing = self.get_incomplete_ranks()
        if missing:
            raise TasksFailed(recorded_problems(Path(self.logging_dir.resolve_paths("")), missing))


def recorded_problems(logs: Path, missing: Sequence[int]) -> list[str]:
    """What the `missing` tasks of a stage have left in its logs, at least a line."""
    notes = [note for rank in missing if (note := logs / ERRORS_NAME / f"{rank:05d}").exists()]
    without = f"{len(missing):,} tasks did not finish; see {logs}/logs/task_{missing[0]:05d}.log"
    return [line for note in notes for line in note.read_text(encoding="utf-8").splitlines()] or [without]


class TasksFailed(SeveralErrors):
    """What is wrong with the inputs of a stage's tasks."""

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return f"{len(self.problems):,} failures: {first_of(self.problems, separator='; ')}"


def run_on_slurm(stages: Sequence[Stage], logs: Path, num_workers: int, options: SlurmOptions) -> None:
    """Nothing; submits all stages, each waiting for the one before, and returns while they run.

    Raises ValueError for what Slurm does not take.
    """
    if any(character.isspace() for character in str(logs)):
        raise ValueError(f"{logs}: datatrove's Slurm scripts cannot have white space in a path; choose another output")
    log_to_file(logs)
    executor = None
    for stage in stages:
        executor = SlurmExecutor(
            pipeline=list(stage.steps),
            tasks=stage.num_tasks,
            workers=num_workers,
            time=options.time,
            partition=options.partition,
            mem_per_cpu_gb=options.memory_gb,
            job_name=f"veco-{stage.name.replace(' ', '-')}",
            qos="",
            env_command=options.setup,
            # A stage whose predecessor fails would wait for ever; so it goes, and the next prepare submits it again.
            sbatch_args={"kill-on-invalid-dep": "yes", **options.arguments},
            logging_dir=stage.logs_in(logs),
            depends=executor,
        )
    if executor is not None:
        try:
            executor.run()
        except subprocess.CalledProcessError as error:
            raise ValueError(f"sbatch ended with exit code {error.returncode}; its message is above") from None


def run_on_ray(stages: Sequence[Stage], logs: Path, num_workers: int, address: str | None) -> None:
    """Run all stages on the Ray cluster at `address`, or on a cluster of this machine made for the purpose.

    Raises ValueError with the errors of the first stage in which tasks fail, or where Ray is not installed.
    """
    try:
        import ray
    except ImportError:
        raise ValueError("--executor ray: the package ray is not installed; pip install ray") from None
    log_to_file(logs)
    num_cpus = num_workers if address is None else None
    with ray.init(address=address, num_cpus=num_cpus, include_dashboard=False, log_to_driver=False):
        for stage in stages:
            RayExecutor(
                pipeline=list(stage.steps),
                tasks=stage.num_tasks,
                workers=num_workers,
                logging_dir=stage.logs_in(logs),
                mem_per_cpu_gb=RAY_MEMORY_GB,
            ).run()


def log_to_file(logs: Path) -> None:
    """Nothing; what datatrove has to say while it submits goes to `prepare.log` among the logs."""
    logs.mkdir(parents=True, exist_ok=True)
    logger.remove()
    logger.add(logs / "prepare.log")


def run_local(
    function: Callable[[T], None],
    tasks: Sequence[T],
    num_workers: int,
    on_done: Callable[[T], None],
    on_poll: Callable[[Sequence[T]], None],
    on_failed: Callable[[T, str], None] = lambda task, problem: None,
) -> None:
    """Call `function` on each task in `num_workers` processes of this machine.

    `on_done(task)` runs here after each task, `on_poll(tasks)` twice a second with those that run. A task that raises
    ValueError or OSError does not keep others from being done: `on_failed(task, line)` runs here for each thing that is
    wrong with it, and the lines of all are raised at the end as TasksFailed. What would meet the others too ends all
    workers at once: an OSError such as a full disk, raised as ValueError; any other exception, as RuntimeError with the
    worker's traceback; a worker that dies (killed for memory), as ChildProcessError.
    """
    # spawn: a fresh interpreter. fork would copy the threads' locks of this one, and there is a progress bar's thread.
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(tasks))
    workers: dict[Connection, tuple[BaseProcess, T | None]] = {}
    problems: list[str] = []
    try:
        for _ in range(min(num_workers, len(tasks))):
            ours, theirs = context.Pipe()
            started = context.Process(target=_work, args=(function, theirs), daemon=True)
            started.start()
            theirs.close()
            workers[ours] = (started, waiting.pop())
            _send(ours, *workers[ours])
        next_poll = time.monotonic()
        while running := {pipe: task for pipe, (_, task) in workers.items() if task is not None}:
            if time.monotonic() >= next_poll:
                on_poll(list(running.values()))
                next_poll = time.monotonic() + POLL_SECONDS
            for ready in wait(list(running), POLL_SECONDS):
                assert isinstance(ready, Connection)
                process, task = workers[ready]
                assert task is not None
                found = _receive(ready, process, task)
                if not found:
                    on_done(task)
                for problem in found:
                    problems.append(problem)
                    on_failed(task, problem)
                following = waiting.pop() if waiting else None
                workers[ready] = (process, following)
                if following is not None:
                    _send(ready, process, following)
    except BaseException:
        for process, _ in workers.values():
            process.terminate()
        raise
    finally:
        for pipe in workers:
            pipe.close()  # which ends a worker that waits for a task
        for process, _ in workers.values():
            process.join()
    if problems:
        raise TasksFailed(problems)


def _send(pipe: Connection, process: BaseProcess, task: object) -> None:
    """Give a task to a worker."""
    try:
        pipe.send(task)
    except (BrokenPipeError, ConnectionResetError):
        raise _worker_died(process, task) from None


def _receive(pipe: Connection, process: BaseProcess, task: object) -> list[str]:
    """What is wrong with the inputs of a task, as its worker says; raises errors that concern all tasks."""
    try:
        kind, lines = pipe.recv()
    except (EOFError, ConnectionResetError):
        raise _worker_died(process, task) from None
    if kind == "error of all":
        raise ValueError("; ".join(lines))
    if kind == "our error":
        raise RuntimeError("\n".join([f"in a worker, during {task}:", *lines]))
    return list(lines)


def _worker_died(process: BaseProcess, task: object) -> ChildProcessError:
    process.join()
    return ChildProcessError(
        f"a worker ended with exit code {process.exitcode} during task {task}; if memory was short, use fewer "
        "--workers; start again to go on with what is missing"
    )


def _work(function: Callable[[T], None], pipe: Connection) -> None:
    """Live as a worker: answer each task it is sent until the pipe closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            function(task)
            pipe.send(("done", []))
        except (ValueError, OSError) as error:
            concerns_all = isinstance(error, OSError) and error.errno in ERRORS_OF_ALL
            pipe.send(("error of all" if concerns_all else "user error", problems_of(error)))
        except Exception:
            pipe.send(("our error", traceback.format_exc().splitlines()))


def _end_with_parent() -> None:
    """Nothing; ends this worker at once if the main process is killed, so that none writes on beside a later run."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
