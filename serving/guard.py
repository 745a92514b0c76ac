"""Enforces the limits of requests (origin, size, time), and counts requests."""

import asyncio
import time

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.limits import MOST_HELD, Limits


class Guard:
    """Wrapper of the app that enforces the limits and counts requests."""

    def __init__(self, app: ASGIApp, limits: Limits, registry: CollectorRegistry):
        """Guards an app; `registry` gets the figures."""
        self._app = app
        self._limits = limits
        self._held = 0
        self._requests = Counter("headstart_requests", "Requests answered.", ["path", "status"], registry=registry)
        self._seconds = Histogram("headstart_request_seconds", "Seconds of a request.", ["path"], registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request within the limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, size, started = 0, 0, time.perf_counter()

        async def receive_some() -> Message:
            nonlocal size
            message = await receive()
            received = len(message.get("body", b""))
            size, self._held = size + received, self._held + received
            self._check_size(size)
            return message

        async def send_counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            async with asyncio.timeout(self._limits.max_seconds):
                _check_asker(scope)
                self._check_size(int(Headers(scope=scope).get("content-length", "0")))
                await self._app(scope, receive_some, send_counted)
        except (HTTPException, TimeoutError) as error:
            if status:
                raise
            if isinstance(error, TimeoutError):
                error = too_busy(f"More than {self._limits.max_seconds:g} seconds.")
            # The rest of the request may still be arriving.
            headers = {**(error.headers or {}), "Connection": "close"}
            await JSONResponse({"detail": error.detail}, error.status_code, headers)(scope, receive, send_counted)
        finally:
            self._held -= size
            route = scope.get("route")
            path = getattr(route, "path", "other")  # the route, not the requested path, which may be anything
            self._requests.labels(path, status).inc()
            self._seconds.labels(path).observe(time.perf_counter() - started)

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_mib * 2**20:
            raise HTTPException(413, f"A request may have {self._limits.max_mib} MiB.")
        if self._held > MOST_HELD * 2**20:
            raise too_busy("Too many requests at a time.")


def _check_asker(scope: Scope) -> None:
    """Refuses requests from pages of other sites, whose headers name their origin."""
    headers = Headers(scope=scope)
    own = {"sec-fetch-site": "same-origin", "origin": f"{scope['scheme']}://{headers.get('host', '')}"}
    if scope["method"] == "POST" and any(headers.get(name, value) != value for name, value in own.items()):
        raise HTTPException(403, "A page of another site may not ask.")


def too_busy(detail: str) -> HTTPException:
    """Makes the refusal of a request that may be tried again."""
    return HTTPException(503, f"{detail} Try again later.", {"Retry-After": "1"})
