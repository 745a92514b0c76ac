"""Serves a page to this machine alone, until Ctrl-C. Nothing here needs TensorFlow."""

import errno
import logging
import os
import socket
import threading
import webbrowser
from typing import TYPE_CHECKING

from app.errors import UsageError
from app.terminal import show_stage

if TYPE_CHECKING:
    from flask import Flask

HOST = "127.0.0.1"
"""No other machine can reach this address."""
ANSWERED_AT_ONCE = 4
"""Most complete requests at a time; each may take as many bytes of memory as a picture may have."""
MOST_CONNECTIONS = 200
"""Most open connections, idle ones included."""
IDLE_SECONDS = 20
"""Seconds after which a connection that sends nothing is closed."""


def open_port(port: int, host: str = HOST) -> socket.socket:
    """Opens a port of an IP address, any free one for 0, before slow work begins.

    Raises:
        UsageError: the port is not available.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise UsageError(f"--host must be an address of this machine; received {host}.") from None
        raise UsageError(
            f"--port {port} cannot be used ({os.strerror(error.errno or 0)}). Take another, or 0 for any that is free."
        ) from None


def serve(app: "Flask", listener: socket.socket, open_browser: bool = False) -> None:
    """Serves an app and prints its address; returns only by an exception such as Ctrl-C.

    Args:
        app: answers in several threads at once; requests have at most its MAX_CONTENT_LENGTH.
        listener: from `open_port`.
        open_browser: whether to show it in the browser as well.
    """
    import waitress

    logging.getLogger("waitress").setLevel(logging.ERROR)  # no line for every waiting request
    address = f"http://{HOST}:{listener.getsockname()[1]}/"
    server = waitress.create_server(
        app,
        sockets=[listener],
        threads=ANSWERED_AT_ONCE,
        connection_limit=MOST_CONNECTIONS,
        channel_timeout=IDLE_SECONDS,
        cleanup_interval=1,
        max_request_body_size=app.config["MAX_CONTENT_LENGTH"] + 1,  # waitress refuses this size and more
    )
    # In its own thread, because waitress swallows Ctrl-C.
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    show_stage("page", f"{address} (Ctrl-C ends it)")
    if open_browser:
        webbrowser.open(address)
    try:
        thread.join()
    finally:
        server.task_dispatcher.shutdown()
