"""Processes that share sentences to translate."""

import os
import subprocess
import sys
import textwrap
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from launching import run

from finetune.mt.decoding import workers as workers_module

# Worker 1 dies while it starts; the first process waits for it in a rendezvous.
PROGRAM = """
    import os
    from finetune.mt.decoding import workers

    workers.SECONDS_TO_REPORT, join = 0.1, workers._join

    def join_or_die(rank, *arguments):
        if rank == 1:
            os.kill(os.getpid(), 9)
        return join(rank, *arguments)

    workers._join = join_or_die

    if __name__ == "__main__":
        with workers.joined_workers(2, print) as its:
            its.broadcast("together")
"""


def test_the_first_process_ends_with_a_dead_worker(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM), encoding="utf-8")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    result = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PYTHONPATH": ".", "TMPDIR": str(temporary)},
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == "error: worker 1 ended with exit code -9; the others need it"
    assert not list(temporary.iterdir())


def test_a_worker_that_ends_between_two_reads_of_its_exit_code_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sentinel may be ready before its exit code is known."""

    class Ended(Exception):
        pass

    def end(code: int) -> None:
        raise Ended(code)

    class Worker:
        def __init__(self) -> None:
            self.answers: list[int | None] = [None, -9]
            self.sentinel, other = Pipe(duplex=False)
            other.close()

        @property
        def exitcode(self) -> int | None:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

        def kill(self) -> None:
            pass

    monkeypatch.setattr(workers_module, "SECONDS_TO_REPORT", 0.0)
    monkeypatch.setattr(os, "_exit", end)
    workers: Any = [Worker()]
    with pytest.raises(Ended, match="1"):
        workers_module._end_with_workers(workers, tmp_path / "temporary")


ALL_LEAVE = """
import multiprocessing
from operator import methodcaller
from finetune.mt.decoding.workers import joined_workers

if __name__ == "__main__":
    with joined_workers(2, methodcaller("broadcast", None)) as workers:
        workers.broadcast(None)
    print(multiprocessing.active_children())
"""


def test_other_processes_have_ended_before_their_rendezvous_file_is_removed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(ALL_LEAVE)
    ended = run([sys.executable, str(tmp_path / "script.py")])
    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr
