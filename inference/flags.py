"""Flags of the commands that ask a model about pictures."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from app.config import Open, Resize, check_setting
from app.errors import UsageError

if TYPE_CHECKING:
    from inference.answering import AnsweringModel
    from inference.load import TrainedRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class AskFlags:
    """Flags of the commands that ask a model about pictures."""

    backbone: Open[str] = None
    """Pretrained network to use in place of a RUN, such as efficientnet_lite0; the README lists all."""

    weights: str = "imagenet"
    """Weights of --backbone: 'imagenet', or a .h5 or .weights.h5 file with top."""

    resize: Open[Resize] = None
    """Resizing to a square for --backbone: 'crop', 'pad' or 'stretch'; see train.py. Default: crop."""

    unknown_below: Open[float] = None
    """Answer 'unknown' where no class has this probability, as a fraction. Default: never."""

    def __post_init__(self):
        check_setting(self, "unknown_below", lambda value: 0 < value <= 1, "above 0 and at most 1")
        if self.backbone is None and (self.weights != "imagenet" or self.resize):
            flag = "--resize" if self.resize else "--weights"
            raise UsageError(f"{flag} is for --backbone; a RUN has its own. Leave it out.")

    def find_network(self, folder: Path | None) -> "tuple[AnsweringModel, TrainedRun | None]":
        """Returns the model that answers, of a run folder or of --backbone, and the run if there is one."""
        from inference.answering import of_backbone, of_run
        from inference.load import read_run

        if self.backbone is not None:
            return of_backbone(self.backbone, self.weights, self.resize or "crop"), None
        assert folder is not None  # the flags are checked
        run = read_run(folder)
        return of_run(run), run
