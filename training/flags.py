"""The flags of `train.py`, including those that start from the settings of another run."""

from pathlib import Path

from app.config import TrainConfig
from app.errors import UsageError
from app.fields import settings
from app.flags import given_flags
from training.begun import resumed


@settings
class TrainFlags(TrainConfig):
    """Train a classifier: a pretrained backbone without its top, and a new head on it."""

    config: Path | None = None
    """Start from the config.json of a run, such as runs/NAME/config.json: from its settings, and the values chosen for
    those it left open. Default: the settings below."""


def parse_config(args: list[str] | None = None) -> TrainConfig:
    """Reads the flags of `train.py`. They override the settings of `--config FILE`; with `--resume`, they must equal
    those of the run.

    Args:
        args: the flags; None for those of the process.

    Raises:
        UsageError: a flag is unknown, or a setting has an invalid value.
        SystemExit: with 0 after --help.
    """
    given = given_flags(TrainFlags, args)
    file, resume = given.pop("config", None), given.get("resume")
    if resume is None:
        return (TrainConfig() if file is None else TrainConfig.from_file(file)).replace(**given)
    if file is not None:
        raise UsageError("--resume takes the settings of its run; leave out --config.")
    return resumed(Path(resume), given)
