"""Ctrl-C and SIGTERM: both end a command as an exception does, and a block can put them off until it has saved."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


def heed_sigterm() -> None:
    """Makes SIGTERM raise `Terminated`, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise)


@contextlib.contextmanager
def end_at_once() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM end the process where it stands, in a block that does not come back to Python."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_interrupts() -> None:
    """Leaves Ctrl-C and SIGTERM to another process, without which this one ends."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def put_off() -> Iterator[Callable[[], KeyboardInterrupt | None]]:
    """Lets a block go on when Ctrl-C or SIGTERM comes; what came is raised at its end. The second is raised at once.

    Yields:
        A function that returns what came, so that the block can save and raise it; None if nothing did.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise _exception(number)
        received.append(number)
        os.write(2, b"\nstopping after this step; once more stops at once\n")  # what prints might be at work itself

    heeded = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heeded}
    try:
        yield lambda: _exception(received[0]) if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise _exception(received[0])


def _raise(number: int, frame: FrameType | None) -> None:
    raise _exception(number)


def _exception(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
