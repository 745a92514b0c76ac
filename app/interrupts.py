"""Ctrl-C and SIGTERM: both end a command by an exception, which a block can delay until it has saved."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: set[int] = set()


class Terminated(KeyboardInterrupt):
    """SIGTERM asked the process to end."""


def heed_sigterm() -> None:
    """Makes SIGTERM raise `Terminated`, as Ctrl-C raises KeyboardInterrupt."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _raise)


def is_terminated(interrupt: KeyboardInterrupt) -> bool:
    """Returns whether SIGTERM ends a command; Ray may have replaced the exception by a KeyboardInterrupt."""
    return isinstance(interrupt, Terminated) or signal.SIGTERM in _received


@contextlib.contextmanager
def end_at_once() -> Iterator[None]:
    """Lets Ctrl-C and SIGTERM end the process at once, for a block that does not return to Python."""
    with _handled_by(signal.SIG_DFL, SIGNALS):
        yield


def ignore_interrupts() -> None:
    """Ignores Ctrl-C and SIGTERM: another process handles them, and this one ends with it."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def put_off() -> Iterator[Callable[[], KeyboardInterrupt | None]]:
    """Delays Ctrl-C or SIGTERM to the end of a block; the second signal is raised at once.

    Yields:
        A function that returns the delayed signal, which the block may raise after saving; None if there was none.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise _exception(number)
        received.append(number)
        os.write(2, b"\nstopping after this step; once more stops at once\n")  # print is not re-entrant

    with _handled_by(note, [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]):
        yield lambda: _exception(received[0]) if received else None
    if received:
        raise _exception(received[0])


@contextlib.contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers, numbers: Iterable[int]
) -> Iterator[None]:
    """Sets another handler of signals while a block runs."""
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
