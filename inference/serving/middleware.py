"""What goes on around every request: its host, a limit on its size, an end where its client hangs up, and counting."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.serving.hosts import host_of
from inference.serving.metrics import Metrics

BAD_REQUEST, TOO_SLOW, TOO_LARGE, INTERNAL_ERROR = 400, 408, 413, 500
READ_ON_BYTES = 1 << 28


class KnownHosts:
    """ASGI middleware: 400 for a request that calls the server by none of its names.

    A page of the web whose name is made to lead to this machine (DNS rebinding) could otherwise read, in a visitor's
    browser, what a server on the visitor's machine answers. Starlette's TrustedHostMiddleware answers in plain text.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            # None at all is in no browser's request.
            asked = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
            if asked and host_of(asked) not in self._hosts:
                told = f"Host {asked[:40]!r}: expected {', '.join(sorted(self._hosts))}; --allow-host takes more names"
                await JSONResponse({"detail": told}, BAD_REQUEST)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """ASGI middleware: 413 for bodies of more than `most` bytes, announced or not, before they are in memory.

    A body that is not there after some seconds is answered by 408: a server that stops would otherwise wait for it.
    """

    def __init__(self, app: ASGIApp, most: int, seconds: float) -> None:
        self._app = app
        self._most = most
        self._seconds = seconds
        self._told = f"the body has more than {most:,} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        until = asyncio.get_running_loop().time() + self._seconds
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._most:
            await read_on(receive, until)
            await JSONResponse({"detail": self._told}, TOO_LARGE)(scope, receive, send)
            return
        num_bytes, is_read = 0, False

        async def counted() -> Message:
            nonlocal num_bytes, is_read
            if is_read:  # what follows is that the client hangs up
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(TOO_SLOW, f"the body was not there after {self._seconds:g} seconds") from None
            num_bytes += len(message.get("body", b""))
            is_read = not message.get("more_body", False)
            if num_bytes > self._most:
                if not is_read:
                    await read_on(receive, until)
                raise HTTPException(TOO_LARGE, self._told)
            return message

        await self._app(scope, counted, send)


async def read_on(receive: Receive, until: float) -> None:
    """Read and forget the rest of a body, up to READ_ON_BYTES and to a time of the event loop.

    Many clients send all of it before they read the answer: a connection that is closed meanwhile loses this.
    """
    num_bytes, has_more = 0, True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            while has_more and num_bytes < READ_ON_BYTES:
                message = await receive()
                num_bytes += len(message.get("body", b""))
                has_more = bool(message.get("more_body", False))


class HangUp:
    """ASGI middleware that cancels the work on a request whose client closes its connection before the answer begins.

    Such requests are counted, also those that end within their body, which would be bad requests otherwise. Nothing
    else reads on behind the body, so nothing else would notice.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = asyncio.current_task()
        assert request is not None
        is_read, is_answered, has_hung_up = asyncio.Event(), False, False

        async def read() -> Message:
            nonlocal has_hung_up
            message = await receive()
            if message["type"] == "http.disconnect" and not is_answered:
                has_hung_up = True
                request.cancel()
                await asyncio.sleep(0)  # where the cancellation is raised: nobody is answered
            if not message.get("more_body", False):
                is_read.set()
            return message

        async def answered(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        async def watch() -> None:
            nonlocal has_hung_up
            await is_read.wait()
            while (await receive())["type"] != "http.disconnect":  # which also ends an answer that was sent
                pass
            if not is_answered:
                has_hung_up = True
                request.cancel()

        watching = asyncio.create_task(watch())
        try:
            await self._app(scope, read, answered)
        except asyncio.CancelledError:
            if not has_hung_up:  # the server stops
                raise
            request.uncancel()
            self._metrics.abandoned(path_of(scope))
        finally:
            watching.cancel()


class Counting:
    """ASGI middleware that counts answers and their seconds by route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._count(scope, message["status"], started)
            await send(message)

        with self._metrics.in_progress.track_inprogress():
            try:
                await self._app(scope, receive, counted)
            except Exception:  # which the outermost middleware answers
                self._count(scope, INTERNAL_ERROR, started)
                raise

    def _count(self, scope: Scope, status: int, started: float) -> None:
        self._metrics.request(path_of(scope), status, time.perf_counter() - started)


def path_of(scope: Scope) -> str:
    """The path of a request's route; unknown paths, which anyone can make up, count together."""
    route = scope.get("route")
    return "unknown" if route is None else str(route.path)
