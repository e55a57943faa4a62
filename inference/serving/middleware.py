"""What goes on around every request: a limit on its size, and counting."""

from __future__ import annotations

import time

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference.serving.metrics import Metrics

TOO_LARGE = 413


class BodyLimit:
    """ASGI middleware: 413 for bodies of more than `most` bytes, announced or not, before they are in memory."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._told = f"the body has more than {most:,} bytes"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._most:
            await JSONResponse({"detail": self._told}, TOO_LARGE)(scope, receive, send)
            return
        num_bytes = 0

        async def counted() -> Message:
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._most:
                raise HTTPException(TOO_LARGE, self._told)
            return message

        await self._app(scope, counted, send)


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
                route = scope.get("route")  # unknown paths, which anyone can make up, count together
                path = "unknown" if route is None else str(route.path)
                self._metrics.request(path, message["status"], time.perf_counter() - started)
            await send(message)

        await self._app(scope, receive, counted)
