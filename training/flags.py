"""The flags of `train.py`, with those that start from the settings of another run."""

import argparse
from pathlib import Path

from app.config import TrainConfig
from app.errors import UsageError
from app.flags import parse_flags
from training.folder import check_unchanged, read_begun

_EXAMPLES = {"--config": "runs/NAME/config.json", "--resume": "runs/NAME"}


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
    begun = read_begun(known.resume)
    config = parse_flags(TrainConfig, rest, default=begun, description=description)
    check_unchanged(config, begun.to_json())
    if config.output != known.resume:
        raise UsageError(f"--resume goes on in its own folder, '{known.resume}'; leave out --output.")
    return config
