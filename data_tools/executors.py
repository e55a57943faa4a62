"""Who runs the tasks of prepare: a task is a dataclass, running it a pure function; executors differ in who calls.

Every executor gets the tasks in order and returns when all are done. What a task has finished lies on disk, so that an
executor carries no results and a run that was killed can go on with what is missing.
"""

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from data_tools.cli import one_line

T = TypeVar("T")
POLL_SECONDS = 0.5


def run_local(
    function: Callable[[T], None],
    tasks: Sequence[T],
    num_workers: int,
    on_done: Callable[[T], None],
    on_poll: Callable[[], None],
) -> None:
    """Nothing; calls `function` on each task in `num_workers` processes of this machine.

    `on_done(task)` runs here after each task, `on_poll()` about twice a second. The first error ends all workers and is
    raised: ValueError and OSError with their line, others as RuntimeError with the worker's traceback. A worker that
    dies (killed for memory) raises ChildProcessError.
    """
    # spawn: a fresh interpreter. fork would copy the threads' locks of this one, and there is a progress bar's thread.
    context = multiprocessing.get_context("spawn")
    waiting = list(reversed(tasks))
    workers: dict[Connection, tuple[BaseProcess, T | None]] = {}
    try:
        for _ in range(min(num_workers, len(tasks))):
            ours, theirs = context.Pipe()
            started = context.Process(target=_work, args=(function, theirs), daemon=True)
            started.start()
            theirs.close()
            first = waiting.pop()
            ours.send(first)
            workers[ours] = (started, first)
        while any(task is not None for _, task in workers.values()):
            on_poll()
            for ready in wait([pipe for pipe, (_, task) in workers.items() if task is not None], POLL_SECONDS):
                assert isinstance(ready, Connection)
                process, task = workers[ready]
                assert task is not None
                _receive(ready, process, task)
                on_done(task)
                following = waiting.pop() if waiting else None
                workers[ready] = (process, following)
                if following is not None:
                    ready.send(following)
    finally:
        for pipe, (process, _) in workers.items():
            pipe.close()
            process.terminate()
        for process, _ in workers.values():
            process.join()


def _receive(pipe: Connection, process: BaseProcess, task: object) -> None:
    """Nothing; the answer of a worker, raised if it is an error."""
    try:
        kind, message = pipe.recv()
    except EOFError:
        process.join()
        raise ChildProcessError(
            f"a worker ended with exit code {process.exitcode} during {task}; if memory was short, use fewer "
            "--workers; start again to go on with what is missing"
        ) from None
    if kind == "user error":
        raise ValueError(message)
    if kind == "our error":
        raise RuntimeError(f"in a worker, during {task}:\n{message}")


def _work(function: Callable[[T], None], pipe: Connection) -> None:
    """Nothing; the life of a worker: answers each task it is sent until the pipe closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            function(task)
            pipe.send(("done", ""))
        except (ValueError, OSError) as error:
            pipe.send(("user error", one_line(error)))
        except Exception:
            pipe.send(("our error", traceback.format_exc()))


def _end_with_parent() -> None:
    """Nothing; ends this worker at once if the main process is killed, so that none writes on beside a later run."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
