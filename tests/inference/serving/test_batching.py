"""What arrives together is computed together; results, errors and limits are each request's own."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from inference.serving.batching import Batcher, BusyError


def doubled(items: Sequence[int]) -> list[int]:
    if -1 in items:
        raise ValueError("-1 cannot be doubled")
    return [2 * item for item in items]


def run(num_requests: int, items_each: int, max_items: int = 8) -> tuple[list[list[int]], list[int]]:
    """The results of requests that come at once, and the sizes of the batches that they were computed in."""
    sizes: list[int] = []

    async def all_at_once() -> list[list[int]]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(doubled, executor, max_items, max_waiting=1000, observe=sizes.append)
            requests = [[100 * request + item for item in range(items_each)] for request in range(num_requests)]
            return await asyncio.gather(*map(batcher.compute, requests))

    return asyncio.run(all_at_once()), sizes


def test_requests_share_batches_and_have_their_own_results() -> None:
    found, sizes = run(num_requests=10, items_each=3)
    assert found == [[2 * (100 * request + item) for item in range(3)] for request in range(10)]
    assert sizes == [6, 6, 6, 6, 6]  # two requests of three fit into eight


def test_a_large_request_is_cut() -> None:
    found, sizes = run(num_requests=1, items_each=20)
    assert found == [[2 * item for item in range(20)]] and sizes == [8, 8, 4]


def test_nothing_is_asked_of_an_empty_request() -> None:
    assert run(num_requests=1, items_each=0) == ([[]], [])


def test_one_bad_request_does_not_spoil_its_batch() -> None:
    async def together() -> list[list[int] | BaseException]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(doubled, executor, 8, 1000)
            return await asyncio.gather(*map(batcher.compute, ([1, 2], [-1], [3])), return_exceptions=True)

    first, bad, last = asyncio.run(together())
    assert first == [2, 4] and last == [6] and isinstance(bad, ValueError)


def test_a_full_queue_refuses_and_the_rest_is_done() -> None:
    """The first batch is held until all have come; a request that was cancelled is left out."""
    go_on, seen = threading.Event(), list[int]()

    def held(items: Sequence[int]) -> list[int]:
        go_on.wait(10)
        seen.extend(items)
        return doubled(items)

    async def crowded() -> list[list[int]]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(held, executor, max_items=2, max_waiting=4)
            tasks = [asyncio.create_task(batcher.compute([1]))]
            await asyncio.sleep(0.05)  # it is being computed, and does not wait any more
            tasks += [asyncio.create_task(batcher.compute([number])) for number in (2, 3, 4, 5)]
            await asyncio.sleep(0.01)
            assert batcher.num_waiting == 4
            with pytest.raises(BusyError):
                await batcher.compute([6])
            tasks.pop(2).cancel()
            go_on.set()
            return await asyncio.gather(*tasks)

    assert asyncio.run(crowded()) == [[2], [4], [8], [10]]
    assert seen == [1, 2, 4, 5]


def test_a_cancelled_request_leaves_room_and_does_not_end_a_batch() -> None:
    """It is larger than what is left of the batch; nothing that waits counts it."""
    go_on, seen = threading.Event(), list[list[int]]()

    def held(items: Sequence[int]) -> list[int]:
        go_on.wait(10)
        seen.append(list(items))
        return doubled(items)

    async def crowded() -> list[list[int]]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(held, executor, max_items=4, max_waiting=6)
            first = asyncio.create_task(batcher.compute([1]))
            await asyncio.sleep(0.05)
            second, gone = (asyncio.create_task(batcher.compute(items)) for items in ([2], [3, 3, 3, 3]))
            await asyncio.sleep(0.01)
            gone.cancel()
            await asyncio.sleep(0.01)
            assert batcher.num_waiting == 1
            third = asyncio.create_task(batcher.compute([4, 5]))
            await asyncio.sleep(0.01)
            go_on.set()
            return await asyncio.gather(first, second, third)

    assert asyncio.run(crowded()) == [[2], [4], [8, 10]]
    assert seen == [[1], [2, 4, 5]]


def test_a_large_request_that_is_cancelled_ends_with_the_batch_in_work() -> None:
    go_on, seen = threading.Event(), list[list[int]]()

    def held(items: Sequence[int]) -> list[int]:
        seen.append(list(items))
        go_on.wait(10)
        return doubled(items)

    async def large() -> list[int]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(held, executor, max_items=2, max_waiting=100)
            gone = asyncio.create_task(batcher.compute([1, 2, 3, 4, 5]))
            await asyncio.sleep(0.05)
            gone.cancel()
            other = asyncio.create_task(batcher.compute([6]))
            await asyncio.sleep(0.01)
            go_on.set()
            return await other

    assert asyncio.run(large()) == [12]
    assert seen == [[1, 2], [6]]


def test_a_queue_forgets_what_was_cancelled() -> None:
    """While a batch is in work, many ask and hang up; the same items of another stay."""
    go_on = threading.Event()

    class Items(list[int]):
        """A list to which there may be weak references."""

    def held(items: Sequence[int]) -> list[int]:
        go_on.wait(60)
        return doubled(items)

    async def crowded() -> list[list[int]]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(held, executor, max_items=4, max_waiting=6)
            tasks = [asyncio.create_task(batcher.compute([1]))]
            try:
                await asyncio.sleep(0.05)
                tasks.append(asyncio.create_task(batcher.compute([2, 3])))
                forgotten = list[weakref.ref[Items]]()
                for _ in range(50):
                    items = Items([2, 3])
                    forgotten.append(weakref.ref(items))
                    gone = asyncio.create_task(batcher.compute(items))
                    await asyncio.sleep(0)
                    assert batcher.num_waiting == 4
                    gone.cancel()
                    await asyncio.wait([gone])
                    assert batcher.num_waiting == 2
                del items, gone
                gc.collect()
                assert [items() for items in forgotten] == [None] * 50
            finally:
                go_on.set()
            found = await asyncio.gather(*tasks)
            assert batcher.num_waiting == 0
            return found

    assert asyncio.run(crowded()) == [[2], [4, 6]]
