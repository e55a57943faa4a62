"""The processes of a run: connected, sharing the cores of a machine, and leaving together."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import statistics
from collections.abc import Iterator

import psutil
import torch
import torch.distributed as dist
from torch import Tensor

from data_tools.cli import warn

BUSY_SECONDS, BUSY_PERCENT = 0.2, 50  # how long other programs are watched, and what counts as many


@dataclasses.dataclass
class ConnectedRanks:
    """The processes of a run whose process group, if there are several, is up."""

    rank: int
    world_size: int
    device: torch.device

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        total = values.clone()
        if dist.is_initialized():
            dist.all_reduce(total)
        return total


@contextlib.contextmanager
def lost_ranks_named(where: str) -> Iterator[None]:
    """Turn a failure to reach other ranks into a ConnectionError of one line."""
    try:
        yield
    except RuntimeError as error:
        told = str(error)
        if isinstance(error, dist.DistError) or re.search("gloo|NCCL|Connection (closed|reset)", told):
            reason = told.strip().splitlines()[0].partition(". ")[0]
            raise ConnectionError(
                f"{where}: another rank is gone; --resume auto goes on from the last checkpoint ({reason})"
            ) from error
        raise


def share_cores() -> None:
    """Give each process of this machine its share of the cores: together they must not have more threads.

    OMP_NUM_THREADS, which torch has followed already, stands: runs side by side share a machine by it.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return
    processes_here = int(os.environ.get("LOCAL_SIZE") or os.environ.get("LOCAL_WORLD_SIZE") or "1")
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // processes_here))


def warn_of_other_programs() -> None:
    """Tell where this process, which takes all cores that it may use, shares them with other programs.

    OpenMP's threads wait for each other by spinning: two runs of two threads on two cores were 40 times as slow as one
    after the other. With OMP_NUM_THREADS somebody has thought of it.
    """
    num_threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ or num_threads == 1:
        return
    of_all = psutil.cpu_percent(interval=BUSY_SECONDS, percpu=True)
    of_ours = [of_all[core] for core in os.sched_getaffinity(0) if core < len(of_all)]
    if of_ours and (busy := statistics.fmean(of_ours)) >= BUSY_PERCENT:
        warn(
            f"other programs keep {busy:.0f} % of the cores busy, and the {num_threads} threads of this run will wait "
            "for them: if one is another training, each may be many times slower; start each with its share of the "
            f"cores, such as OMP_NUM_THREADS={num_threads // 2}"
        )


def shut_down() -> None:
    """Leave the process group, if there is one, when every rank has come so far.

    Together, because launchers end the other ranks once one has left with another exit code than 0.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
