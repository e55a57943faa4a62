"""Training runs side by side on one machine, each with its share of the GPUs or cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from queue import SimpleQueue
from typing import TypeVar

from tqdm import tqdm

RunT = TypeVar("RunT")
MOST_TOLD = 3  # failures whose errors are in the message; of others it has the names


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        import torch  # takes seconds

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
    runs: Sequence[RunT],
    work: Callable[[RunT, dict[str, str]], None],
    parallel: int,
    ranks: int,
    needs: Sequence[Collection[int]] | None = None,
    name: Callable[[RunT], str] = str,
) -> None:
    """Call `work` with each run and the environment variables of its share of the machine, `parallel` at once.

    `needs` has for each run the places of those that must succeed before it begins. A run that fails with ValueError
    does not stop those that do not need it; at the end all failures are raised as one ValueError: the errors of the
    first MOST_TOLD, the `name` of each other, and of each run that was left out for one.
    """
    free: SimpleQueue[dict[str, str]] = SimpleQueue()
    for share in shares_of_machine(parallel, ranks):
        free.put(share)

    def work_in_share(run: RunT) -> None:
        share = free.get()
        try:
            work(run, share)
        finally:
            free.put(share)

    waiting = dict(enumerate(runs))
    done: set[int] = set()
    failed: list[tuple[RunT, str]] = []
    running: dict[Future[None], int] = {}
    with ThreadPoolExecutor(parallel) as pool, tqdm(total=len(runs), unit=" runs", disable=None) as progress:
        while waiting or running:
            ready = [place for place in waiting if needs is None or done.issuperset(needs[place])]
            for place in ready[: parallel - len(running)]:
                running[pool.submit(work_in_share, waiting.pop(place))] = place
            if not running:
                break  # all that is left needs a run that failed
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                place = running.pop(future)
                try:
                    future.result()
                    done.add(place)
                except ValueError as error:
                    failed.append((runs[place], str(error)))
                progress.update()
    if failed:
        left_out = f"; left out for that: {', '.join(map(name, waiting.values()))}" if waiting else ""
        told = "; ".join(error for _, error in failed[:MOST_TOLD])
        others = ", ".join(name(run) for run, _ in failed[MOST_TOLD:])
        also = f"; also failed: {others}" if others else ""
        raise ValueError(f"{len(failed)} of {len(runs)} runs failed: {told}{also}{left_out}")
