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
    """What the environment of each of `parallel` runs at once, of `ranks` processes each, says of its devices.

    With GPUs each gets some of those in CUDA_VISIBLE_DEVICES, or of all that there are. Without, several at once get
    equal shares of the cores, unless OMP_NUM_THREADS has been set. Raises ValueError when there are too few GPUs.
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
    """Nothing; calls `work` with each run and what its environment must say, `parallel` at once.

    A run that fails with ValueError does not keep the others from being done; then the failures are one ValueError.
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
