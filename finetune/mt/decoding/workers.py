"""Processes that share the sentences to translate, started by a launcher or by this program."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed

from data_tools.cli import EXIT_BAD_INPUT
from training.launch import launched_rank, launched_ranks

Item = TypeVar("Item")
TIMEOUT = timedelta(days=30)  # of collectives, which wait for the next sentence in interactive use
SECONDS_TO_REPORT = 10.0  # in which the first process may find and report the mistake that has ended a worker


class Workers:
    """This process's rank among the workers, and their communication; by default it is the only one."""

    def __init__(
        self, rank: int = 0, world_size: int = 1, local_rank: int = 0, device: torch.device | None = None
    ) -> None:
        """`device` None is the worker's own card, where there are any, or the CPU."""
        self.rank, self.world_size, self.local_rank = rank, world_size, local_rank
        self._device = device

    @property
    def is_first(self) -> bool:
        """Whether this is the worker that reads and writes."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The device that was given, or this worker's card, or the CPU."""
        if self._device is not None:
            return self._device
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", self.local_rank % torch.cuda.device_count())

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This worker's share of `items`; the workers take turns."""
        return list(items[self.rank :: self.world_size])

    def broadcast(self, value: Item) -> Item:
        """The first worker's `value`."""
        if self.world_size == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def gathered(self, results: dict[int, Item]) -> dict[int, Item]:
        """The results of all workers on the first one; its own results on every other."""
        if self.world_size == 1:
            return results
        parts: list[dict[int, Item]] | None = [{} for _ in range(self.world_size)] if self.is_first else None
        distributed.gather_object(results, parts, dst=0)
        if parts is None:
            return results
        return {i: result for part in parts for i, result in part.items()}


@contextmanager
def joined_workers(num_workers: int, work: Callable[[Workers], None]) -> Iterator[Workers]:
    """This process as one of a launcher's ranks or, without a launcher, as the first of `num_workers` processes.

    Workers that this process starts run `work`, and end with it; in this process, the caller does the work. Raises
    ValueError if both a launcher and a number of workers are given.
    """
    if launched_ranks() > 1:
        if num_workers > 1:
            raise ValueError(
                f"--workers {num_workers} in addition to a launcher's {launched_ranks()} ranks; choose one of them"
            )
        distributed.init_process_group("gloo", timeout=TIMEOUT)
        yield Workers(launched_rank(), launched_ranks(), int(os.environ.get("LOCAL_RANK", "0")))
        distributed.destroy_process_group()
        return
    if num_workers == 1:
        yield Workers()
        return
    with tempfile.TemporaryDirectory(prefix="veco-workers-") as directory:
        meeting_point = Path(directory) / "meeting"
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=_run_worker, args=(rank, num_workers, meeting_point, work), daemon=True)
            for rank in range(1, num_workers)
        ]
        for worker in workers:
            worker.start()
        threading.Thread(target=_end_with_workers, args=(workers, Path(directory)), daemon=True).start()
        try:
            yield _join(0, num_workers, meeting_point)
            distributed.destroy_process_group()
        except BaseException:
            for worker in workers:
                worker.terminate()
            raise
        finally:
            for worker in workers:
                worker.join()  # before the directory is removed: they still use the file in it


def _end_with_workers(workers: Sequence[SpawnProcess], directory: Path) -> None:
    """End this process when a worker fails; return once all have succeeded.

    A collective would wait for a dead worker for days, and cannot be interrupted from Python.
    """
    running = dict(enumerate(workers, start=1))
    while running:
        multiprocessing.connection.wait([worker.sentinel for worker in running.values()])
        # Each exit code is read once: a worker that ended between two reads would be missed.
        exit_codes = {rank: worker.exitcode for rank, worker in running.items()}
        for rank, exit_code in exit_codes.items():
            if exit_code:
                time.sleep(SECONDS_TO_REPORT)
                sys.stderr.write(f"error: worker {rank} ended with exit code {exit_code}; the others need it\n")
                sys.stderr.flush()
                for other in workers:
                    other.kill()
                shutil.rmtree(directory, ignore_errors=True)
                os._exit(1)
        running = {rank: worker for rank, worker in running.items() if exit_codes[rank] is None}


def _join(rank: int, world_size: int, meeting_point: Path) -> Workers:
    torch.set_num_threads(max(1, torch.get_num_threads() // world_size))
    method = f"file://{meeting_point}"
    distributed.init_process_group("gloo", init_method=method, rank=rank, world_size=world_size, timeout=TIMEOUT)
    return Workers(rank, world_size, local_rank=rank)


def _run_worker(rank: int, world_size: int, meeting_point: Path, work: Callable[[Workers], None]) -> None:
    try:
        work(_join(rank, world_size, meeting_point))
        distributed.destroy_process_group()
    except (ValueError, OSError):
        # The first process finds the same bad input, and reports it.
        sys.exit(EXIT_BAD_INPUT)
