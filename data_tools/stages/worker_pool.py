"""Independent tasks in the processes of this machine: failures are collected, a worker that dies ends them all."""

import errno
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from data_tools.cli import SeveralErrors, first_of, problems_of

T = TypeVar("T")
POLL_SECONDS = 0.5
# Errors of the machine and not of one task's input: all other tasks would meet them too, after hours of work perhaps.
ERRORS_OF_ALL = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
)


class TasksFailed(SeveralErrors):
    """What is wrong with the inputs of a stage's tasks."""

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return self.problems[0]
        return f"{len(self.problems):,} failures: {first_of(self.problems, separator='; ')}"


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
