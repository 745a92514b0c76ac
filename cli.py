"""What the commands share: flags from a dataclass, one-line errors, exit statuses, and a quiet TensorFlow."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import tyro

from config import TrainConfig, UsageError

USAGE_STATUS = 2
INTERRUPTED_STATUS = 130


def parse_config(args: list[str] | None = None) -> TrainConfig:
    """Reads the flags of `train.py`; those given override the settings of `--config FILE`.

    Raises:
        UsageError: a setting has an impossible value.
        SystemExit: with 2 for an unknown flag or a value that is no such type, with 0 after --help.
    """
    config_flag = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    config_flag.add_argument("--config", type=Path)
    known, rest = config_flag.parse_known_args(args)
    default = TrainConfig.from_file(known.config) if known.config else TrainConfig()
    description = f"{TrainConfig.__doc__}\n\nAlso: --config FILE starts from the config.json of a run."
    return tyro.cli(TrainConfig, default=default, args=rest, description=description)


def run_command(command: Callable[[], None]) -> None:
    """Runs a command and exits: a mistake of the user is one line and status 2, Ctrl-C status 130."""
    try:
        command()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(USAGE_STATUS)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED_STATUS)


def import_tensorflow() -> None:
    """Imports TensorFlow without its start-up chatter, part of which ignores every log level it has."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _silent_stderr():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.config.list_logical_devices()
    tf.get_logger().setLevel("ERROR")


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Sends the process's standard error (C++ included) nowhere; a Python exception still surfaces afterwards."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
