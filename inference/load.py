"""Opens a run folder. What can be known without TensorFlow is checked before it is loaded."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from config import Task, TrainConfig, UsageError

if TYPE_CHECKING:
    import keras

METRICS_FILE = "metrics.json"
MODEL_FILE = "model.keras"
RECORD_FILE = "model.json"
"""What has to be known of a model besides its weights."""


class TrainedRun(NamedTuple):
    """A finished run."""

    folder: Path
    config: TrainConfig
    """With every setting chosen."""
    class_names: tuple[str, ...]
    task: Task
    cut: str | None
    """Name of the layer at which the run cut its network in two; None if it measured the network as a whole."""
    temperature: float
    """By which the logits were divided; the model's weights have it in them."""


def read_run(folder: Path) -> TrainedRun:
    """Reads what a run folder says of its model; loads no weights.

    Args:
        folder: of a run, or of a search, whose best run is meant.

    Raises:
        UsageError: it is no finished run.
    """
    if (folder / "best" / MODEL_FILE).is_file() and not (folder / MODEL_FILE).is_file():
        folder = folder / "best"
    if not folder.is_dir():
        raise UsageError(
            f"RUN must be a run folder, as train.py makes them below runs/; there is no folder '{folder}'."
        )
    missing = [name for name in ("config.json", MODEL_FILE, RECORD_FILE, METRICS_FILE) if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"RUN must be the folder of a finished run; '{folder}' has no {' and no '.join(missing)}.")
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        run = TrainedRun(
            folder,
            TrainConfig.from_file(folder / "config.json"),
            tuple(map(str, record["classes"])),
            record["task"],
            record["cut"],
            float(record["temperature"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"'{folder / RECORD_FILE}' is damaged ({error!r}).") from None
    if run.task not in get_args(Task) or len(run.class_names) < 2 or run.config.image_size is None:
        raise UsageError(f"'{folder / RECORD_FILE}' is damaged: no such task or classes.")
    return run


def load_model(run: TrainedRun) -> "keras.Model":
    """Loads a run's model; nothing that a file asks for is executed.

    Returns:
        From float32 pictures (n, image_size, image_size, 3) in [0, 255] to probabilities (n, num_outputs).

    Raises:
        UsageError: the file is damaged, or of another run.
    """
    import keras

    path = run.folder / MODEL_FILE
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        inputs, outputs = model.input_shape, model.output_shape
    except Exception as error:  # Keras raises anything on a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise UsageError(
            f"'{path}' cannot be loaded, it is damaged or of another version of Keras ({reason})."
        ) from error
    size, expected = run.config.image_size, 1 if run.task == "binary" else len(run.class_names)
    if inputs != (None, size, size, 3) or outputs != (None, expected):
        raise UsageError(f"'{path}' is not the model that '{run.folder / RECORD_FILE}' tells of.")
    return model
