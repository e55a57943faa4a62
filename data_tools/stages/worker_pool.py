"""A pool of worker processes on this machine that collects the failures of tasks, and stops if a worker dies."""

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
# Errors of the machine, not of one task's input: all other tasks would meet them too, perhaps after hours of work.
ERRORS_OF_ALL = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
)


class TasksFailed(SeveralErrors):
    """The problems with the inputs of tasks."""

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

    In this process, `on_done(task)` is called after each task, and `on_poll(tasks)` twice a second with those that are
    running. A task that raises ValueError or OSError does not stop the others: `on_failed(task, line)` is called for
    each of its problems, and all lines are raised at the end as TasksFailed. Errors that the others would meet too stop
    all workers at once: an OSError such as a full disk is raised as ValueError, any other exception as RuntimeError
    with the worker's traceback, and a worker that dies (out of memory) as ChildProcessError.
    """
    # spawn starts a fresh interpreter; fork would copy locks held by other threads, such as the progress bar's.
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
            pipe.close()  # ends a worker that waits for a task
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
    """The problems with the input of a task, from its worker; raises errors that concern all tasks."""
    try:
        kind, lines = pipe.recv()
    except (EOFError, ConnectionResetError):
        raise _worker_died(process, task) from None
    if kind == "error of all":
        raise ValueError("; ".join(lines))
    if kind == "our error":
        raise RuntimeError("\n".join([f"in a worker, in task {task}:", *lines]))
    return list(lines)


def _worker_died(process: BaseProcess, task: object) -> ChildProcessError:
    process.join()
    return ChildProcessError(
        f"a worker died with exit code {process.exitcode} in task {task}; if memory ran out, use fewer --workers; run "
        "the command again to continue"
    )


def _work(function: Callable[[T], None], pipe: Connection) -> None:
    """The loop of a worker process: run each task from the pipe and send back its result, until the pipe closes."""
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
    """End this worker as soon as the main process is killed, so that it does not interfere with a later run."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
