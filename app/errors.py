"""Errors that end a command: mistakes of the user, and problems that are nobody's mistake."""

import difflib
from collections.abc import Iterable
from pathlib import Path

from app.files import FULL_DISK

MOST_LISTED = 12
"""Most choices that an error lists if it also suggests one of them."""
NEAR = 0.7
"""Least similarity (Ratcliff and Obershelp) of a suggested name: 'adm' and 'adam' have 0.86, 'nothere' and 'three'
0.67."""


class UsageError(Exception):
    """A mistake of the user; the message says what was expected, what was received and what to do. Exit status 2."""


class RunError(Exception):
    """A problem that is not a mistake of the user, in one sentence that says what to do. Exit status 1."""


def unknown_choice(flag: str, received: str, choices: Iterable[str]) -> UsageError:
    """Makes the error for a name that is not in a table; it suggests the nearest name."""
    choices = list(choices)
    hint = did_you_mean(received.lower(), choices)
    listed = f"{len(choices)} names" if hint and len(choices) > MOST_LISTED else ", ".join(choices)
    return UsageError(f"{flag} must be one of {listed}; received '{received}'.{hint}")


def cannot_write(flag: str, path: Path, error: OSError) -> UsageError | RunError:
    """Makes the error for a path that cannot be written; a full disk is not a mistake of the user."""
    if error.errno in FULL_DISK:
        return RunError(f"The disk of '{path}' is full. Make room, or choose another {flag}.")
    return UsageError(f"{flag} must be writable; '{path}' is not: {error.strerror}.")


def did_you_mean_path(path: Path, others: Iterable[str] = ()) -> str:
    """Returns the end of an error message that suggests the nearest name beside a missing path, or '' if none is near.

    Args:
        path: the missing path.
        others: other names that a path without a folder may mean.
    """
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    nearest = difflib.get_close_matches(path.name, [*(others if path.parent == Path() else ()), *names], 1, NEAR)
    return f" Did you mean '{path.parent / nearest[0]}'?" if nearest else ""


def did_you_mean(received: str, choices: Iterable[str]) -> str:
    """Returns the end of an error message that suggests the nearest choice, or '' if none is near."""
    nearest = difflib.get_close_matches(received, choices, n=1, cutoff=NEAR)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
