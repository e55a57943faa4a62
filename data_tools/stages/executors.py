"""Running the tasks of a stage in processes of this machine, on Slurm or on Ray, all through datatrove.

A task reads its input from disk and writes its results to disk: executors transfer no results, and a run that was
killed continues with the missing tasks. datatrove keeps a log, statistics and a marker of each finished task in the log
directory of the stage.
"""

import contextlib
import math
import os
import subprocess
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger
from datatrove.utils.stats import PipelineStats, Stats
from rich.console import Console
from rich.progress import Progress

from data_tools.cli import problems_of, progress_bar
from data_tools.files.atomic import named_errors
from data_tools.stages.worker_pool import TasksFailed, run_local

ERRORS_NAME = "errors"
MEGABYTE = 1_000_000
RAY_MEMORY_GB = 1


@dataclass(frozen=True)
class Stage:
    """Steps to run for each rank in range(num_tasks); a stage begins when the previous one is done.

    `num_bytes` is what each task will read, for the order and the progress bar; `bytes_read(rank)` is its progress.
    """

    name: str
    steps: Sequence[PipelineStep]
    num_tasks: int
    num_bytes: Sequence[int] = ()
    bytes_read: Callable[[int], int] = lambda rank: 0

    def logs_in(self, logs: Path) -> str:
        """The log directory of the stage, without spaces, since it is not quoted in Slurm's scripts."""
        return str(logs / self.name.replace(" ", "-"))


@dataclass(frozen=True)
class SlurmOptions:
    """Options of `sbatch`; `time` in Slurm's notation; `setup` is a shell command that prepares Python."""

    partition: str
    time: str
    memory_gb: int
    setup: str
    arguments: dict[str, str]


class RecordsErrors(PipelineExecutor):
    """An executor that writes the message of a failed task to the log directory, for other processes to read."""

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
    """Processes of this machine. datatrove's own pool hangs when a worker dies; this one reports it and ends."""

    def __init__(self, stage: Stage, num_workers: int, logs: Path, progress: Progress) -> None:
        super().__init__(list(stage.steps), stage.num_tasks, num_workers, logging_dir=stage.logs_in(logs))
        self.stage = stage
        self.progress = progress

    def run(self) -> None:
        """Run the tasks that are not done, with a progress bar, largest first.

        A large task at the end would keep one worker busy while the others idle. Failures are printed as they occur,
        and their number is raised at the end; a single failure is only raised. Other errors are those of `run_local`.
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
    """Prints failures, one line each; the first only with the second, since a single one is the error at the end."""

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
        """Print the failures that have not been printed yet."""
        for problem in self._waiting:
            self._console.print(f"failed: {problem}", markup=False, highlight=False, soft_wrap=True)
        self._waiting.clear()


@dataclass(frozen=True)
class RunRank:
    """Runs one task of an executor in a worker process; datatrove's messages go only to its log."""

    executor: LocalPipelineExecutor

    def __call__(self, rank: int) -> None:
        executor = copy(self.executor)
        executor.pipeline = [with_own_statistics(step) for step in executor.pipeline]
        logs = self.executor.logging_dir.path
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere), named_errors(logs):
            executor._run_for_rank(rank)


def with_own_statistics(step: PipelineStep) -> PipelineStep:
    """A shallow copy of `step` with statistics of its own, so that they do not include earlier tasks."""
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
    """The messages of the `missing` tasks of a stage from its logs, at least one line."""
    notes = [note for rank in missing if (note := logs / ERRORS_NAME / f"{rank:05d}").exists()]
    without = f"{len(missing):,} tasks did not finish; see {logs}/logs/task_{missing[0]:05d}.log"
    return [line for note in notes for line in note.read_text(encoding="utf-8").splitlines()] or [without]


def run_on_slurm(stages: Sequence[Stage], logs: Path, num_workers: int, options: SlurmOptions) -> None:
    """Submit all stages, each waiting for the previous one; returns while they run.

    Raises ValueError if Slurm refuses them.
    """
    if any(character.isspace() for character in str(logs)):
        raise ValueError(f"{logs}: datatrove's Slurm scripts allow no white space in paths; choose another output")
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
            # Otherwise a stage whose predecessor fails would wait for ever; the next prepare submits it again.
            sbatch_args={"kill-on-invalid-dep": "yes", **options.arguments},
            logging_dir=stage.logs_in(logs),
            depends=executor,
        )
    if executor is not None:
        try:
            executor.run()
        except subprocess.CalledProcessError as error:
            raise ValueError(f"sbatch failed with exit code {error.returncode}; its message is above") from None


def run_on_ray(stages: Sequence[Stage], logs: Path, num_workers: int, address: str | None) -> None:
    """Run all stages on the Ray cluster at `address`, or on a temporary cluster of this machine.

    Raises ValueError with the errors of the first stage in which tasks fail, or if Ray is not installed.
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
    """Write datatrove's messages during submission to `prepare.log` among the logs."""
    logs.mkdir(parents=True, exist_ok=True)
    logger.remove()
    logger.add(logs / "prepare.log")
