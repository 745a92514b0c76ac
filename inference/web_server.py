"""Serves a page to this machine alone, until Ctrl-C. Nothing here needs TensorFlow."""

import logging
import os
import socket
import threading
import webbrowser
from typing import TYPE_CHECKING

from config import UsageError
from terminal import show_stage

if TYPE_CHECKING:
    from flask import Flask

HOST = "127.0.0.1"
"""No other machine can reach this address."""


def open_port(port: int) -> socket.socket:
    """Takes a port, before anything slow is done.

    Args:
        port: its number, or 0 for any that is free.

    Raises:
        UsageError: it cannot be had.
    """
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise UsageError(
            f"--port {port} cannot be used ({os.strerror(error.errno or 0)}). Take another, or 0 for any that is free."
        ) from None


def serve(app: "Flask", listener: socket.socket, open_browser: bool = False) -> None:
    """Serves an app and prints its address; returns only by an exception such as Ctrl-C.

    Args:
        app: what answers; by several threads at once.
        listener: from `open_port`.
        open_browser: whether to show it in the browser as well.
    """
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for every request
    address = f"http://{HOST}:{listener.getsockname()[1]}/"
    server = make_server(HOST, 0, app, threaded=True, fd=listener.fileno())
    # In a thread of its own, as Werkzeug keeps Ctrl-C to itself.
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    show_stage("page", f"{address} (Ctrl-C ends it)")
    if open_browser:
        webbrowser.open(address)
    try:
        thread.join()
    finally:
        server.shutdown()
