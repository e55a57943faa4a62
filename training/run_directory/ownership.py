"""Ownership of a run's directory: by one start at a time, on one machine or on many that share a file system.

The owner is the first rank of a start. It notes itself in RUN/.owner, a directory that appears whole by one rename, as
checkpoints do, and gives a sign of life every BEAT_SECONDS. An owner whose process is gone, or whose machine gives no
sign of life for LOST_SECONDS, loses the directory to the next start. A note is a file with a name of its owner's own:
whoever takes it away takes away no other, and onto the empty directory that is left one rename succeeds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import hashlib
import json
import math
import os
import shutil
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from data_tools.cli import one_line
from data_tools.files.atomic import sync_file
from training.launch import launched_rank, launchers, start_of, tell

OWNER = ".owner"
BEAT_SECONDS = 15.0
LOST_SECONDS = 120.0  # network file systems show a sign of life up to a minute late
FIRST_RANK_SECONDS = 60.0  # that other ranks wait for the first one to become the owner
POLL_SECONDS = 0.2
MOST_MISSES = 50  # looks at a note that is there and cannot be read, before it is none


@dataclasses.dataclass(frozen=True)
class Owner:
    """A process that owns a run's directory, or did."""

    host: str
    machine: str
    process: int
    began: str
    since: str
    start: str  # equal for all ranks of a start, and for two starts that have the same port
    job: str  # of Slurm; empty without it
    rendezvous: str  # of torchrun; empty without it
    node: str  # number of the machine among those of its start
    launcher: str  # that all ranks of one node have above them; empty without one

    @classmethod
    def of_this_process(cls) -> Self:
        process = os.getpid()
        address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
        return cls(
            host=socket.gethostname(),
            machine=this_machine(),
            process=process,
            began=start_of(process),
            since=time.strftime("%Y-%m-%d %H:%M:%S %z"),
            start=f"{address}:{port}" if port else f"process {process}",
            job=os.environ.get("SLURM_JOB_ID", ""),
            rendezvous=os.environ.get("TORCHELASTIC_RUN_ID", ""),
            # DeepSpeed's launcher and torchrun have each a name for it.
            node=os.environ.get("CROSS_RANK") or os.environ.get("GROUP_RANK") or "0",
            launcher=next((f"{launcher} {start_of(launcher)}" for launcher in launchers()), ""),
        )

    @property
    def note_name(self) -> str:
        """The name of the file in RUN/.owner that notes this owner, and no other one."""
        return f"{hashlib.sha256(self.note().encode()).hexdigest()[:16]}.json"

    def note(self) -> str:
        """The content of that file."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    def may_share_start(self, other: Owner) -> bool:
        """Whether two owners may belong to one launch."""
        names = ((self.job, other.job), (self.rendezvous, other.rendezvous))
        if self.start != other.start or any(one and another and one != another for one, another in names):
            return False
        is_same_node = self.machine == other.machine and self.node == other.node
        return not is_same_node or self.launcher == other.launcher

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since}"


class Verdict(enum.Enum):
    """The state of an owner, as far as it is known."""

    LIVES = enum.auto()
    GONE = enum.auto()
    UNKNOWN = enum.auto()


class Ownership:
    """Lock on a run directory, held inside `with`; other ranks than the first only check that the first has it.

    Raises ValueError on every rank, before any of them waits for another, when the directory is another start's. One
    that was made for it and stayed empty is removed again.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.path = run_dir / OWNER
        self.us = Owner.of_this_process()
        self.is_first = launched_rank() == 0
        self.was_made = False
        self._is_over = threading.Event()
        self._lock = threading.Lock()  # between signs of life and `check`, which may both take the directory again
        self._looked = 0.0  # when this owner last found it its own, on a clock that runs while the machine sleeps
        self._signs_of_life: dict[Owner, float] = {}

    def __enter__(self) -> Self:
        for path in (self.run_dir, *self.run_dir.parents):
            if path.exists() and not path.is_dir():
                raise ValueError(f"--output {self.run_dir}: {path} is no directory; choose another name")
        if self.is_first:
            self.was_made = not self.run_dir.exists()
            self._take()
            self._looked = now_asleep_or_not()
            threading.Thread(target=self._beat, daemon=True).start()
        else:
            self._wait_for_first_rank()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        with self._lock:
            if self.is_first and self._read() == self.us:
                self._remove(self.us)
        if self.was_made:
            with contextlib.suppress(OSError):  # not empty
                self.run_dir.rmdir()

    def check(self) -> None:
        """Raise OSError when the directory was taken over after this process was suspended; called before every save.

        An owner whose note is gone takes the directory again. A note that cannot be read just now names nobody else.
        """
        if self.is_first:
            with self._lock:
                unreadable = self._look()
            if unreadable:
                tell(f"{self.path} cannot be read just now ({unreadable}); the run continues")

    def _look(self) -> str:
        """Do what `check` does, and give a sign of life; why the note cannot be read, empty if it can."""
        try:
            owner = self._read_note(self.path)
        except FileNotFoundError:
            if now_asleep_or_not() - self._looked > LOST_SECONDS:  # others may have come and gone
                raise self._loss("an unknown one") from None
            try:
                self._take()
            except ValueError:
                raise self._loss(str(self._read() or "an unknown one")) from None
            tell(f"{self.path} was deleted during the run; recreated")
        except (OSError, ValueError, TypeError) as error:
            return one_line(error)
        else:
            if owner != self.us:
                raise self._loss(str(owner))
            with contextlib.suppress(OSError):
                os.utime(self.path / self.us.note_name)
        self._looked = now_asleep_or_not()
        return ""

    def _loss(self, owner: str) -> OSError:
        return OSError(f"{self.run_dir} was taken over by another run: {owner}")

    def _take(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        ours = self._own_name("tmp")
        shutil.rmtree(ours, ignore_errors=True)
        ours.mkdir()
        note = ours / self.us.note_name
        is_reported, misses = False, 0
        try:
            note.write_text(self.us.note(), encoding="utf-8")
            sync_file(note)
            while True:
                try:
                    os.rename(ours, self.path)
                    return
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                os.utime(note)  # by the clock of the file system, which may not be ours
                owner = self._read()
                if owner is None:  # left just now
                    misses += 1
                    if misses > MOST_MISSES:
                        raise ValueError(f"{self.path}: expected a note of the run's owner; move it elsewhere")
                    time.sleep(POLL_SECONDS)
                    continue
                verdict = self._verdict(owner, now=note.stat().st_mtime)
                if verdict is Verdict.LIVES:
                    raise self._refusal(owner)
                if verdict is Verdict.GONE:
                    if self._remove(owner):
                        tell(f"{self.run_dir}: the previous owner ({owner}) has ended; taking over")
                    continue
                if not is_reported:
                    is_reported = True
                    tell(
                        f"{self.run_dir} belongs to {owner}; waiting {LOST_SECONDS:.0f} s at most to see "
                        "whether that other machine responds"
                    )
                time.sleep(POLL_SECONDS)
        finally:
            shutil.rmtree(ours, ignore_errors=True)

    def _wait_for_first_rank(self) -> None:
        """Return when the first rank of this start owns the directory, or may do so yet."""
        deadline = time.monotonic() + FIRST_RANK_SECONDS
        while time.monotonic() < deadline:
            owner = self._read()
            if owner is not None:
                if self._is_our_first_rank(owner):
                    return
                if self._verdict(owner, now=0.0) is Verdict.LIVES:
                    raise self._refusal(owner)
            time.sleep(POLL_SECONDS)

    def _is_our_first_rank(self, owner: Owner) -> bool:
        """Whether an owner is the first rank of this process's start.

        It is not if it had given signs of life for long before this process began. The file system shows how long, so
        clocks of different machines are not compared.
        """
        if not self.us.may_share_start(owner):
            return False
        try:
            seconds = (self.path / owner.note_name).stat().st_mtime - self.path.stat().st_mtime
        except OSError:  # left just now
            return False
        return seconds < age_of(self.us) + LOST_SECONDS

    def _verdict(self, owner: Owner, now: float) -> Verdict:
        """The state of an owner whose note is still there, at the time `now` of the file system."""
        if owner.machine == self.us.machine:
            return Verdict.LIVES if start_of(owner.process) == owner.began else Verdict.GONE
        try:
            sign_of_life = (self.path / owner.note_name).stat().st_mtime
        except FileNotFoundError:
            return Verdict.UNKNOWN
        if self._signs_of_life.setdefault(owner, sign_of_life) != sign_of_life:
            return Verdict.LIVES
        return Verdict.GONE if now - sign_of_life > LOST_SECONDS else Verdict.UNKNOWN

    def _refusal(self, owner: Owner) -> ValueError:
        return ValueError(
            f"{self.run_dir} is in use by another run ({owner}); wait for it, end it, or give another --output"
        )

    def _remove(self, gone: Owner) -> bool:
        """Whether this process took away the note of an owner that is gone: of several that try one does."""
        try:
            os.unlink(self.path / gone.note_name)
        except FileNotFoundError:
            return False
        with contextlib.suppress(OSError):  # the next owner is there already
            self.path.rmdir()
        return True

    def _own_name(self, ending: str) -> Path:
        """A hidden name beside RUN/.owner, of this process alone."""
        return self.run_dir / f".{OWNER}.{self.us.host}.{self.us.process}.{ending}"

    def _read(self) -> Owner | None:
        """The owner that RUN/.owner names; None where there is none that can be read."""
        try:
            return self._read_note(self.path)
        except (OSError, ValueError, TypeError):
            return None

    @staticmethod
    def _read_note(directory: Path) -> Owner:
        names = [name for name in os.listdir(directory) if name.endswith(".json")]
        if not names:
            raise FileNotFoundError(errno.ENOENT, "no note of an owner", str(directory))
        owner = Owner(**json.loads((directory / names[0]).read_text(encoding="utf-8")))
        if names != [owner.note_name]:
            raise ValueError(f"{directory}: expected one note, named {owner.note_name}, found {', '.join(names)}")
        return owner

    def _beat(self) -> None:
        """Give signs of life until the end; where the disk does not answer, the next one may come through."""
        while not self._is_over.wait(BEAT_SECONDS):
            with self._lock, contextlib.suppress(OSError):
                # A directory that was deleted as a whole is only recreated to be saved into.
                if not self._is_over.is_set() and self.run_dir.is_dir():
                    self._look()


def this_machine() -> str:
    """A name for this machine's processes alone, also where containers or machines share a host name."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def age_of(owner: Owner) -> float:
    """Seconds since a process of this machine began; infinity where this cannot be known."""
    if not owner.began:
        return math.inf
    return now_asleep_or_not() - int(owner.began) / os.sysconf("SC_CLK_TCK")


def now_asleep_or_not() -> float:
    """Seconds since the machine was booted, with those that it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
