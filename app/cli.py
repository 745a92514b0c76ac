"""Exit statuses, errors as one line, and checks that several commands share."""

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from app.errors import RunError, UsageError, cannot_write
from app.escapes import visible
from app.files import YEARS_OF_ZIP, is_full_disk
from app.interrupts import heed_sigterm, is_terminated

USAGE_STATUS, RUN_STATUS = 2, 1
INTERRUPTED_STATUS, TERMINATED_STATUS, CLOSED_PIPE_STATUS = 130, 143, 141
"""Exit statuses after Ctrl-C, SIGTERM and a closed pipe: 128 plus the number of the signal, as in shells."""


def check_output_files(files: Mapping[str, Path | None], inputs: Iterable[str | Path]) -> None:
    """Makes sure that files can be written, each into a file of its own, without creating them.

    Args:
        files: path of each file, by the flag that names it; None if the flag was not given.
        inputs: paths that must not be overwritten.

    Raises:
        UsageError: a file cannot be written, or is one of the others.
    """
    taken = {os.path.realpath(path): "an input" for path in inputs if os.path.exists(path)}
    for flag, path in files.items():
        if path is None:
            continue
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a device or a pipe"
            raise UsageError(f"{flag} must be a file; '{path}' is {kind}.")
        if (other := taken.setdefault(os.path.realpath(path), flag)) != flag:
            raise UsageError(f"{flag} must be a file of its own; '{path}' is {other}.")
        try:
            tempfile.TemporaryFile(dir=path.parent).close()
        except OSError as error:
            raise cannot_write(flag, path, error) from None


def run_command(command: Callable[[], None]) -> None:
    """Runs a command; an error is one line and an exit status: 2 for a mistake of the user, 1 for a problem such as a
    full disk or too little memory, 130 for Ctrl-C, 143 for SIGTERM."""
    heed_sigterm()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as by 2>&- in a shell
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (until the process ends)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not end a run
    year = time.localtime().tm_year
    if year not in YEARS_OF_ZIP:
        _fail(f"The clock of this machine says {year}, which no zip file can store. Set it to today.", RUN_STATUS)
    try:
        command()
    except UsageError as error:
        _fail(str(error))
    except RunError as error:
        _fail(str(error), RUN_STATUS)
    except BrokenPipeError:  # the reader, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(CLOSED_PIPE_STATUS)
    except OSError as error:
        if is_full_disk(error):
            place = f"The disk of '{error.filename}'" if error.filename else "A disk"
            _fail(f"{place} is full. Make room.", RUN_STATUS)
        if "No usable temporary directory" in str(error):
            _fail("No folder for temporary files can be written. Make room, or let TMPDIR name another.", RUN_STATUS)
        if error.filename is None:
            raise
        _fail(f"'{error.filename}' cannot be used: {error.strerror}.")
    except Exception as error:
        if is_full_disk(error) or not _is_lack_of_memory(error):
            raise
        _fail("The memory is too small for this. Close other programs, or use a smaller model.", RUN_STATUS)
    except KeyboardInterrupt as interrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(TERMINATED_STATUS if is_terminated(interrupt) else INTERRUPTED_STATUS)


def _is_lack_of_memory(error: Exception) -> bool:
    """Returns True if Python or TensorFlow (which may not be imported) ran out of memory."""
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"


def _fail(message: str, status: int = USAGE_STATUS) -> None:
    print(f"error: {visible(message)}", file=sys.stderr)
    sys.exit(status)
