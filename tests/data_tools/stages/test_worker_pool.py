"""The functions run here are the standard library's: workers import them by name, which is impossible for a test's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from data_tools.stages.worker_pool import TasksFailed, run_local


def _nothing(*_: object) -> None:
    pass


def test_all_tasks_run_once(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(7)]
    done: list[Path] = []
    run_local(os.mkdir, paths, num_workers=2, on_done=done.append, on_poll=_nothing)  # a second time would fail
    assert sorted(done) == sorted(paths)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_no_tasks_is_no_error() -> None:
    run_local(os.mkdir, [], num_workers=2, on_done=_nothing, on_poll=_nothing)


@pytest.mark.parametrize(
    ("function", "task", "error", "message"),
    [
        (int, "seven", ValueError, "invalid literal for int.*seven"),
        (os.mkdir, "/dev/null/x", ValueError, "/dev/null/x: Not a directory"),
        (len, 3, RuntimeError, "(?s)Traceback.*has no len"),
        (os._exit, 9, ChildProcessError, "exit code 9"),
    ],
)
def test_errors_of_workers_are_raised_here(
    function: Callable, task: object, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_local(function, [task], num_workers=1, on_done=_nothing, on_poll=_nothing)


def test_failed_tasks_are_reported_and_the_others_run(tmp_path: Path) -> None:
    tasks = [tmp_path / name for name in ("none/a", "b", "none/c", "d")]
    done: list[Path] = []
    failed: dict[Path, str] = {}
    with pytest.raises(ValueError) as caught:
        run_local(os.mkdir, tasks, 2, done.append, _nothing, failed.__setitem__)
    reason = "No such file or directory"
    assert failed == {task: f"{task}: {reason}" for task in tasks[::2]}
    assert str(caught.value).startswith("2 failures: ")
    assert all(line in str(caught.value) for line in failed.values())
    assert sorted(done) == tasks[1::2] and all(task.is_dir() for task in done)


def test_many_failures_are_summarised() -> None:
    assert str(TasksFailed(["a"])) == "a"
    assert str(TasksFailed(list("abcde"))) == "5 failures: a; b; c and 2 more"


def test_a_full_disk_stops_all_workers(tmp_path: Path) -> None:
    """The other task waits for a reader of a pipe, and must be stopped: its disk would be full too."""
    os.mkfifo(tmp_path / "pipe")
    tasks = [tmp_path / "pipe", Path("/dev/full")]
    with pytest.raises(ValueError, match="No space left on device"):
        run_local(partial(Path.write_text, data="x"), tasks, num_workers=2, on_done=_nothing, on_poll=_nothing)


def test_a_bug_stops_the_other_workers() -> None:
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="Traceback"):
        run_local(time.sleep, [60, "x"], num_workers=2, on_done=_nothing, on_poll=_nothing)
    assert time.monotonic() - start < 20


def test_workers_end_when_the_main_process_is_killed(environment: dict[str, str]) -> None:
    script = """
import multiprocessing, time
from data_tools.stages.worker_pool import run_local
if __name__ == "__main__":
    tell = lambda tasks: print(*(child.pid for child in multiprocessing.active_children()), flush=True)
    run_local(time.sleep, [60, 60], 2, lambda task: None, tell)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    children: list[int] = []
    while len(children) < 2:
        children = [int(pid) for pid in process.stdout.readline().split()]
    time.sleep(1)  # until the workers sleep in their tasks
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    while any(_is_alive(pid) for pid in children):
        assert time.monotonic() < deadline, "a worker outlives the main process"
        time.sleep(0.1)
    process.stdout.close()


def _is_alive(pid: int) -> bool:
    """Whether a process is running, that is, exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
