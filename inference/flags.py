"""Flags that predict.py, demo.py and serve.py share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from annotated_types import Gt, Le

from app.config import Resize
from app.errors import UsageError
from app.fields import Settings, Text, settings

if TYPE_CHECKING:
    from inference.answering import AnsweringModel
    from inference.load import TrainedRun


@settings
class AskFlags(Settings):
    """Flags of the commands that ask a model about examples."""

    backbone: Text | None = None
    """Pretrained network in place of a RUN, such as efficientnet_lite0; the README lists all. Default: a RUN."""

    weights: Text = "imagenet"
    """Weights of --backbone: 'imagenet', or a .h5 or .weights.h5 file with top; for Whisper, a folder."""

    resize: Resize | None = None
    """Resizing to a square for --backbone: 'crop', 'pad' or 'stretch'; see train.py. Default: crop."""

    unknown_below: Annotated[float, Gt(0), Le(1)] | None = None
    """Answer 'unknown' if no class has this probability, as a fraction. Default: never."""

    unknown: bool = False
    """Answer 'unknown' for an example that is further from the training examples than 95 % of the val examples."""

    def __post_init__(self):
        if self.backbone is not None and self.unknown:
            raise UsageError("--unknown is for a RUN, which keeps what it learnt from. Leave it out.")
        if self.backbone is None and (self.weights != "imagenet" or self.resize):
            flag = "--resize" if self.resize else "--weights"
            raise UsageError(f"{flag} is for --backbone; a RUN has its own. Leave it out.")

    def find_network(self, folder: Path | None) -> "tuple[AnsweringModel, TrainedRun | None]":
        """Returns the model that answers, of a run folder or of --backbone, and the run if there is one.

        Raises:
            UsageError: there is none, or it does not answer as the flags ask.
        """
        from inference.answering import of_backbone, of_run
        from inference.load import read_run

        if self.backbone is not None:
            return of_backbone(self.backbone, self.weights, self.resize or "crop"), None
        assert folder is not None  # the flags are checked
        run = read_run(folder)
        if run.task.has_boxes and (self.unknown_below or self.unknown):
            raise UsageError(
                "A model that finds boxes has no answer 'unknown'. Leave out --unknown and --unknown-below."
            )
        return of_run(run, self.unknown), run
