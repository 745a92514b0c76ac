"""Runs an app until Ctrl-C or SIGTERM; then refuses new connections, and finishes started requests."""

import asyncio
import logging
import math
import socket

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST_CONNECTIONS = 500
"""Most open connections; requests on further ones get a 503."""
HEAD_SECONDS = 20
"""Seconds in which a connection must send the head of its next request."""


class PromptProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection without a complete request head in time, whatever else it sends."""

    _waits: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the timer for the first request."""
        super().connection_made(transport)
        self._await_request()

    def on_response_complete(self) -> None:
        """Starts the timer for the next request."""
        super().on_response_complete()
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timer."""
        super().connection_lost(exc)
        if self._waits is not None:
            self._waits.cancel()

    def _await_request(self) -> None:
        latest = self.cycle

        def give_up() -> None:
            if self.cycle is latest:
                self.transport.abort()

        if self._waits is not None:
            self._waits.cancel()
        self._waits = self.loop.call_later(HEAD_SECONDS, give_up)


def serve(app: ASGIApp, listener: socket.socket, drain_seconds: float) -> None:
    """Serves an app until a signal ends it; never returns, but raises the exception of that signal.

    Args:
        app: app to serve.
        listener: from `inference.web_server.open_port`.
        drain_seconds: seconds to finish requests that have started before the signal.
    """
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # no line for every malformed body
    config = uvicorn.Config(
        app,
        http=PromptProtocol,
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=math.ceil(drain_seconds),
    )
    uvicorn.Server(config).run([listener])
