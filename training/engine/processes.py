"""The processes of a run: connected, sharing the cores of a machine, and leaving together."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor


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


def shut_down() -> None:
    """Leave the process group, if there is one, when every rank has come so far.

    Together, because launchers end the other ranks once one has left with another exit code than 0.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
