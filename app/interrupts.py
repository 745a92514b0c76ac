"""Ctrl-C and SIGTERM: both end a command as an exception does, and a block can put them off until it has saved."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: set[int] = set()


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""


def heed_sigterm() -> None:
    """Makes SIGTERM raise `Terminated`, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise)


def is_terminated(interrupt: KeyboardInterrupt) -> bool:
    """Returns whether it was SIGTERM that ends a command: Ray puts a KeyboardInterrupt in the place of it."""
    return isinstance(interrupt, Terminated) or signal.SIGTERM in _received


@contextlib.contextmanager
def end_at_once() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM end the process where it stands, in a block that does not come back to Python."""
    with _handled_by(signal.SIG_DFL, SIGNALS):
        yield


def ignore_interrupts() -> None:
    """Leaves Ctrl-C and SIGTERM to another process, without which this one ends."""
    for number in SIGNALS:
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

    with _handled_by(note, [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]):
        yield lambda: _exception(received[0]) if received else None
    if received:
        raise _exception(received[0])


@contextlib.contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers, numbers: Iterable[int]
) -> Iterator[None]:
    """Gives signals another handler while a block runs."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def _raise(number: int, frame: FrameType | None) -> None:
    _received.add(number)
    raise _exception(number)


def _exception(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
