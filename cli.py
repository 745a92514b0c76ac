"""What the commands share: flags that several have, mistakes as one line, and exit statuses."""

import argparse
import dataclasses
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from config import Open, Resize, RunError, TrainConfig, UsageError, cannot_write, check_setting
from escapes import visible
from files import YEARS_OF_ZIP, is_full_disk
from flags import parse_flags
from interrupts import Terminated, heed_sigterm

USAGE_STATUS, RUN_STATUS = 2, 1
INTERRUPTED_STATUS, TERMINATED_STATUS, CLOSED_PIPE_STATUS = 130, 143, 141
"""128 and the number of the signal, as shells have it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskFlags:
    """Flags of the commands that ask a model about pictures."""

    backbone: Open[str] = None
    """Pretrained network, such as efficientnet_lite0; the README lists all. There is no RUN then. Default: a RUN."""

    weights: str = "imagenet"
    """Weights of --backbone: 'imagenet', or a .h5 or .weights.h5 file with top."""

    resize: Open[Resize] = None
    """How a picture becomes a square for --backbone: 'crop', 'pad' or 'stretch'; see train.py. Default: crop."""

    unknown_below: Open[float] = None
    """Answer 'unknown' where no class has this probability, as a fraction. Default: never."""

    def __post_init__(self):
        check_setting(self, "unknown_below", lambda value: 0 < value <= 1, "above 0 and at most 1")
        if self.backbone is None and (self.weights != "imagenet" or self.resize):
            flag = "--resize" if self.resize else "--weights"
            raise UsageError(f"{flag} is for --backbone; a RUN has its own. Leave it out.")


def parse_config(args: list[str] | None = None) -> TrainConfig:
    """Reads the flags of `train.py`; those given override the settings of `--config FILE`, or must be those of the run
    that `--resume` names.

    Args:
        args: the flags; those of the process when None.

    Raises:
        UsageError: an unknown flag, or a setting with an impossible value.
        SystemExit: with 0 after --help.
    """
    starts = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    starts.add_argument("--config", type=Path)
    starts.add_argument("--resume", type=Path)
    try:
        known, rest = starts.parse_known_args(args)
    except argparse.ArgumentError as error:
        flag = str(error.argument_name)
        raise UsageError(f"{flag} needs a name, such as {_EXAMPLES[flag]}.") from None
    description = f"{TrainConfig.__doc__}\n\nAlso: --config FILE starts from the config.json of a run."
    if known.resume is None:
        default = TrainConfig.from_file(known.config) if known.config else TrainConfig()
        return parse_flags(TrainConfig, rest, default=default, description=description)
    if known.config is not None:
        raise UsageError("--resume goes on with the settings of its run; leave out --config.")
    from training.folder import check_unchanged, read_begun

    begun = read_begun(known.resume)
    config = parse_flags(TrainConfig, rest, default=begun, description=description)
    check_unchanged(config, begun.to_json())
    if config.output != known.resume:
        raise UsageError(f"--resume goes on in its own folder, '{known.resume}'; leave out --output.")
    return config


_EXAMPLES = {"--config": "runs/NAME/config.json", "--resume": "runs/NAME"}


def check_output_file(flag: str, path: Path | None) -> None:
    """Makes sure that a file can be written, without making it.

    Args:
        flag: that names it.
        path: None if it was not asked for.

    Raises:
        UsageError: it cannot.
    """
    if path is None:
        return
    if path.exists() and not path.is_file():
        raise UsageError(f"{flag} must be a file; '{path}' is {'a folder' if path.is_dir() else 'none'}.")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise cannot_write(flag, path, error) from None


def run_command(command: Callable[[], None]) -> None:
    """Runs a command and exits with one line for an error: status 2 for a mistake of the user, 1 for what is nobody's,
    such as a full disk or too little memory. Ctrl-C is 130, SIGTERM 143."""
    heed_sigterm()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show ends no run
    year = time.localtime().tm_year
    if year not in YEARS_OF_ZIP:
        _fail(f"The clock of this machine says {year}; files cannot be dated so. Set it to today.", RUN_STATUS)
    try:
        command()
    except UsageError as error:
        _fail(str(error))
    except RunError as error:
        _fail(str(error), RUN_STATUS)
    except BrokenPipeError:  # whoever read the output has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(CLOSED_PIPE_STATUS)
    except OSError as error:
        if is_full_disk(error):
            _fail(f"The disk of '{error.filename or Path.cwd()}' is full. Make room.", RUN_STATUS)
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
        sys.exit(TERMINATED_STATUS if isinstance(interrupt, Terminated) else INTERRUPTED_STATUS)


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether Python or TensorFlow, which may not be imported, ran out of memory."""
    return isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"


def _fail(message: str, status: int = USAGE_STATUS) -> None:
    print(f"error: {visible(message)}", file=sys.stderr)
    sys.exit(status)
