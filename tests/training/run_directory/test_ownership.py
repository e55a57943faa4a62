"""One owner of a run's directory at a time: who is refused, who takes over, who is told."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from training.run_directory import ownership as ownership_module
from training.run_directory.ownership import OWNER, Owner, Ownership

ANOTHER = {"machine": "another boot", "host": "node7"}


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("BEAT_SECONDS", 0.05), ("FIRST_RANK_SECONDS", 0.3), ("POLL_SECONDS", 0.02)):
        monkeypatch.setattr(ownership_module, name, value)


def note(run_dir: Path, age: float = 0.0, **facts: object) -> Owner:
    """Another start's note of itself in a run's directory."""
    owner = dataclasses.replace(Owner.of_this_process(), **{"since": "yesterday", "start": "other:1", **facts})
    (run_dir / OWNER).mkdir(parents=True)
    path = run_dir / OWNER / owner.note_name
    path.write_text(owner.note())
    os.utime(path, (time.time() - age,) * 2)
    return owner


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_second_start_is_refused_and_the_next_one_is_not(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with Ownership(run_dir) as first:
        first.check()
        with pytest.raises(ValueError, match=rf"run is in use by another run \(process {os.getpid()} on .*, since "):
            Ownership(run_dir).__enter__()
        first.check()
        (run_dir / "metrics.jsonl").write_text("")
    assert [path.name for path in run_dir.iterdir()] == ["metrics.jsonl"], "no note is left"
    with Ownership(run_dir):
        pass


def test_of_many_starts_at_once_one_owns(tmp_path: Path) -> None:
    """Also where all of them find an owner who is gone."""
    note(tmp_path / "run", process=ended_process())
    ready, owned, refused = threading.Barrier(8), [], []

    def start(number: int) -> None:
        ownership = Ownership(tmp_path / "run")
        ownership.us = dataclasses.replace(ownership.us, start=f"start {number}")
        ownership._own_name = lambda ending: tmp_path / "run" / f".{OWNER}.{number}.{ending}"
        ready.wait()
        try:
            owned.append(ownership.__enter__())
        except ValueError:
            refused.append(number)

    threads = [threading.Thread(target=start, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(owned) == 1 and len(refused) == 7
    owned[0].check()
    owned[0].__exit__(None, None, None)
    assert not list(tmp_path.iterdir()) or not list((tmp_path / "run").iterdir())


def test_owner_whose_process_is_gone_loses_it_and_that_is_told(tmp_path: Path, capsys) -> None:
    gone = note(tmp_path, process=ended_process())
    with Ownership(tmp_path) as ownership:
        ownership.check()
    assert capsys.readouterr().err == f"{tmp_path}: the previous owner ({gone}) has ended; taking over\n"


def test_number_that_another_process_has_now_is_no_owner(tmp_path: Path, capsys) -> None:
    note(tmp_path, process=os.getppid(), began="1")
    with Ownership(tmp_path):
        assert "has ended; taking over" in capsys.readouterr().err


def test_owner_on_another_machine_that_gives_signs_of_life(tmp_path: Path, capsys) -> None:
    path = tmp_path / OWNER / note(tmp_path, **ANOTHER).note_name
    is_over = threading.Event()

    def live() -> None:
        while not is_over.wait(0.1):
            os.utime(path)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(ValueError, match=r"in use by another run \(process \d+ on node7, since yesterday\)"):
            Ownership(tmp_path).__enter__()
    finally:
        is_over.set()
        thread.join()
    assert "waiting 120 s at most to see whether that other machine responds" in capsys.readouterr().err


def test_owner_on_a_machine_that_is_lost(tmp_path: Path, capsys, monkeypatch) -> None:
    note(tmp_path, age=ownership_module.LOST_SECONDS + 5, process=1, **ANOTHER)
    with Ownership(tmp_path):
        assert capsys.readouterr().err.startswith(f"{tmp_path}: the previous owner (process 1 on node7")
    monkeypatch.setattr(ownership_module, "LOST_SECONDS", 0.3)
    note(tmp_path, **ANOTHER)
    with Ownership(tmp_path):
        told = capsys.readouterr().err.splitlines()
        assert len(told) == 2 and "waiting" in told[0] and "taking over" in told[1]


def test_owner_gives_signs_of_life(tmp_path: Path) -> None:
    with Ownership(tmp_path):
        (path,) = (tmp_path / OWNER).iterdir()
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0


def test_owner_who_slept_too_long_saves_no_more(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ownership_module, "BEAT_SECONDS", 60.0)
    with Ownership(tmp_path) as ownership:
        os.rename(tmp_path / OWNER, tmp_path / "elsewhere")
        ownership._looked -= ownership_module.LOST_SECONDS + 1
        with pytest.raises(OSError, match="was taken over by another run: an unknown one"):
            ownership.check()
        other = note(tmp_path)
        with pytest.raises(OSError, match=f"was taken over by another run: process {other.process}"):
            ownership.check()
    assert (tmp_path / OWNER).is_dir(), "the other's note stays"


@pytest.mark.parametrize("beat_seconds", [0.05, 60.0])
def test_owner_whose_note_was_deleted_takes_the_directory_again(tmp_path, monkeypatch, capsys, beat_seconds) -> None:
    monkeypatch.setattr(ownership_module, "BEAT_SECONDS", beat_seconds)
    with Ownership(tmp_path) as ownership:
        shutil.rmtree(tmp_path / OWNER)
        if beat_seconds > 1:
            ownership.check()
        deadline = time.monotonic() + 10
        while "recreated" not in (told := capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert told == f"{tmp_path / OWNER} was deleted during the run; recreated\n"
        with pytest.raises(ValueError, match="in use by another run"):
            Ownership(tmp_path).__enter__()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "Stale file handle"), OSError(errno.EIO, "I/O"), ValueError()])
def test_note_that_cannot_be_read_for_a_moment_ends_no_run(tmp_path: Path, monkeypatch, capsys, error) -> None:
    def fail(directory: Path) -> Owner:
        raise error

    monkeypatch.setattr(ownership_module, "BEAT_SECONDS", 60.0)
    with Ownership(tmp_path) as ownership:
        with monkeypatch.context() as patch:
            patch.setattr(Ownership, "_read_note", staticmethod(fail))
            ownership.check()
        assert "cannot be read just now" in capsys.readouterr().err
        ownership.check()
    assert not list(tmp_path.iterdir())


def test_other_ranks_look_that_the_first_one_owns(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "node1")
    monkeypatch.setenv("MASTER_PORT", "4711")
    with Ownership(tmp_path / "new"):  # nobody does: then the connection to it will tell
        assert not (tmp_path / "new").exists()
    monkeypatch.setattr(ownership_module, "FIRST_RANK_SECONDS", 60.0)
    note(tmp_path / "ours", start="node1:4711", **ANOTHER)
    with Ownership(tmp_path / "ours") as ownership:
        ownership.check()
    assert (tmp_path / "ours" / OWNER).is_dir()
    note(tmp_path / "theirs", process=os.getppid(), began=ownership_module.start_of(os.getppid()))
    with pytest.raises(ValueError, match="in use by another run"):
        Ownership(tmp_path / "theirs").__enter__()


@pytest.mark.parametrize(
    "facts", [{"launcher": "1 1"}, {"job": "7"}, {"rendezvous": "b"}, {"machine": "another boot", "job": "7"}]
)
def test_other_ranks_of_a_second_start_with_the_same_port_are_refused(tmp_path: Path, monkeypatch, facts) -> None:
    monkeypatch.setattr(ownership_module, "FIRST_RANK_SECONDS", 60.0)
    names = {"RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500", "SLURM_JOB_ID": "8"}
    for name, value in {**names, "TORCHELASTIC_RUN_ID": "a"}.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / OWNER / note(tmp_path, **{"start": "node1:29500", **facts}).note_name
    is_over = threading.Event()

    def live() -> None:
        while not is_over.wait(0.05):
            os.utime(path)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(ValueError, match="in use by another run"):
            Ownership(tmp_path).__enter__()
    finally:
        is_over.set()
        thread.join()


def test_owner_that_lived_long_before_this_process_is_another_start(tmp_path: Path, monkeypatch) -> None:
    """Where two starts on many machines have nothing but equal ports."""
    for name, value in {"RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    ownership, owner = Ownership(tmp_path), note(tmp_path, start="node1:29500", **ANOTHER)
    assert ownership._is_our_first_rank(owner)
    os.utime(tmp_path / OWNER, (time.time() - 10 * 86400,) * 2)
    assert not ownership._is_our_first_rank(owner)


def test_node_of_a_start_that_shares_its_machine_has_its_own_launcher(monkeypatch) -> None:
    monkeypatch.setenv("MASTER_PORT", "29500")
    first = dataclasses.replace(Owner.of_this_process(), node="0", launcher="1 1")
    assert first.may_share_start(dataclasses.replace(first, node="1", launcher="2 2"))
    assert not first.may_share_start(dataclasses.replace(first, launcher="2 2"))


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize("output", ["file", "file/run"])
def test_file_is_no_directory_of_a_run(tmp_path: Path, monkeypatch, rank: str, output: str) -> None:
    monkeypatch.setenv("RANK", rank)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match=f"^--output {tmp_path / output}: {tmp_path / 'file'} is no directory; "):
        Ownership(tmp_path / output).__enter__()
    with pytest.raises(ValueError, match="^--output /dev/null: /dev/null is no directory; choose another name$"):
        Ownership(Path("/dev/null")).__enter__()
    assert (tmp_path / "file").read_text() == "mine"


def test_failed_start_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Ownership(tmp_path / "run"):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_what_is_no_note_is_told(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ownership_module, "MOST_MISSES", 3)
    (tmp_path / OWNER).mkdir()
    (tmp_path / OWNER / "mine").write_text("")
    with pytest.raises(ValueError, match=r"\.owner: expected a note of the run's owner; move it elsewhere"):
        Ownership(tmp_path).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == [OWNER]
