"""Requests that arrive together are computed together: one queue for each kind of work, one thread for all."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
# A little time for others to arrive, once a request has come to an idle queue: of 32 clients that wait for the same
# answer, the first to return would otherwise go alone, and all others after it.
GATHERING_SECONDS = 0.002


class BusyError(Exception):
    """More items wait than the queue takes."""


class Request(NamedTuple):
    """Items that came together, and where their results are expected."""

    items: Sequence[object]
    results: asyncio.Future[list[object]]

    @property
    def is_expected(self) -> bool:
        """Whether someone still waits for the results."""
        return not self.results.cancelled()


class Batcher(Generic[Item, Result]):
    """Computes the items of requests in batches, in the order in which these came.

    `work` has a result for each of at most `max_items` items; it runs in `executor`, so that the event loop goes on
    receiving. What arrives meanwhile is the next batch. `max_waiting` items wait at most. `observe` is told the size of
    each batch. Items whose `compute` was cancelled, as nobody waits for them, leave the queue.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result]],
        executor: Executor,
        max_items: int,
        max_waiting: int,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._work = work
        self._executor = executor
        self._max_items = max_items
        self._max_waiting = max_waiting
        self._observe = observe
        self._waiting: OrderedDict[asyncio.Future[list[object]], Request] = OrderedDict()  # by their results
        self._num_waiting = 0  # items of all of them
        self._worker: asyncio.Task[None] | None = None

    @property
    def num_waiting(self) -> int:
        """The items that wait, and are still expected."""
        return self._num_waiting

    async def compute(self, items: Sequence[Item]) -> list[Result]:
        """The results of these items, in their order, when a batch has them.

        Raises BusyError where too many wait, and what `work` raises for these items.
        """
        if not items:
            return []
        if self._num_waiting + len(items) > self._max_waiting:
            raise BusyError
        request = Request(items, asyncio.get_running_loop().create_future())
        self._waiting[request.results] = request
        self._num_waiting += len(items)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work_off())
        try:
            return await request.results  # type: ignore[return-value]  # Request holds any items
        finally:
            self._remove(request)  # if it was cancelled before a batch took it

    def _remove(self, request: Request) -> None:
        """Take a request out of the queue, unless it has left it."""
        if self._waiting.pop(request.results, None) is not None:
            self._num_waiting -= len(request.items)

    async def _work_off(self) -> None:
        """Compute batches until nothing waits."""
        await asyncio.sleep(GATHERING_SECONDS)
        while self._waiting:
            await self._compute_together(self._next_requests())

    def _next_requests(self) -> list[Request]:
        """The first requests that fit into a batch, or the first one alone; without those that were cancelled."""
        found, num_items = list[Request](), 0
        while self._waiting:
            request = next(iter(self._waiting.values()))
            if request.is_expected:
                if found and num_items + len(request.items) > self._max_items:
                    break
                found.append(request)
                num_items += len(request.items)
            self._remove(request)
        return found

    async def _compute_together(self, requests: Sequence[Request]) -> None:
        items = [item for request in requests for item in request.items]
        loop, results = asyncio.get_running_loop(), list[object]()
        try:
            for start in range(0, len(items), self._max_items):
                if not any(request.is_expected for request in requests):
                    return
                part = items[start : start + self._max_items]
                self._observe(len(part))
                results += await loop.run_in_executor(self._executor, self._work, part)  # type: ignore[arg-type]
        except Exception as error:  # whatever it is, the clients that wait are told
            if len(requests) > 1:  # one of them is to blame: each for itself, so that the others have their results
                for request in requests:
                    await self._compute_together([request])
            elif requests[0].is_expected:
                requests[0].results.set_exception(error)
            return
        remaining = iter(results)
        for request in requests:
            own = [next(remaining) for _ in request.items]
            if request.is_expected:
                request.results.set_result(own)
