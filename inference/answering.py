"""What has to be known of a model to give it pictures and to name its answers, before TensorFlow is loaded."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from app.config import Resize, Task
from inference.load import TrainedRun, load_model

if TYPE_CHECKING:
    from inference.predictor import Predictor


class AnsweringModel(NamedTuple):
    """A model that answers, trained here or pretrained."""

    class_names: tuple[str, ...]
    task: Task
    image_size: int
    """Height and width of its pictures, pixels."""
    resize: Resize
    load: "Callable[[], Predictor]"
    """Loads it; needs TensorFlow."""


def of_run(run: TrainedRun) -> AnsweringModel:
    """The model of a run, which reads pictures as the run did."""

    def load() -> "Predictor":
        from inference.predictor import Predictor

        return Predictor(load_model(run), run.cut)

    return AnsweringModel(run.class_names, run.task, run.config.image_size, run.config.resize, load)
