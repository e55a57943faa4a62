"""Training runs side by side on one machine, each with its share of the GPUs or cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

import torch
from tqdm import tqdm

RunT = TypeVar("RunT")


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    return [device for device in visible.split(",") if device not in ("", "-1")]


def shares_of_machine(parallel: int, ranks: int) -> list[dict[str, str]]:
    """The environment variables that give each of `parallel` concurrent runs of `ranks` processes its devices.

    With GPUs, each run gets some of those in CUDA_VISIBLE_DEVICES, or of all GPUs if it is not set. Without, concurrent
    runs get equal shares of the cores, unless OMP_NUM_THREADS is set. Raises ValueError when there are too few GPUs.
    """
    devices = visible_gpus()
    if devices:
        if len(devices) < parallel * ranks:
            raise ValueError(f"{len(devices)} GPUs are visible: too few for {parallel} runs of {ranks} at once")
        slots = (devices[slot * ranks : (slot + 1) * ranks] for slot in range(parallel))
        return [{"CUDA_VISIBLE_DEVICES": ",".join(slot)} for slot in slots]
    if parallel == 1 or "OMP_NUM_THREADS" in os.environ:
        return [{} for _ in range(parallel)]
    threads = max(1, len(os.sched_getaffinity(0)) // (parallel * ranks))
    return [{"OMP_NUM_THREADS": str(threads)} for _ in range(parallel)]


def run_side_by_side(
    runs: Sequence[RunT], work: Callable[[RunT, dict[str, str]], None], parallel: int, ranks: int
) -> None:
    """Call `work` with each run and the environment variables of its share of the machine, `parallel` at once.

    A run that fails with ValueError does not stop the others; at the end all failures are raised as one ValueError.
    """
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for share in shares_of_machine(parallel, ranks):
        free.put(share)
    failed = []

    def work_in_share(run: RunT) -> None:
        share = free.get()
        try:
            work(run, share)
        except ValueError as error:
            failed.append(str(error))
        finally:
            free.put(share)

    with ThreadPoolExecutor(parallel) as pool, tqdm(total=len(runs), unit=" runs", disable=None) as progress:
        for _ in pool.map(work_in_share, runs):
            progress.update()
    if failed:
        raise ValueError(f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}")
