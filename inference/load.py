"""Opens a run folder, and checks all that needs no TensorFlow before it is loaded."""

import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from app.config import TrainConfig
from app.custom_parts import custom_file
from app.errors import UsageError
from app.escapes import visible
from app.files import newest_beside, read_json
from app.run_folder import CONFIG_FILE, METRICS_FILE, is_finished, is_unfinished, resume_command
from data.kinds import KINDS, Kind, Reader, find_kind
from models import backbones
from models.model_file import check_config, check_model_file
from models.weight_file import RefusedFileError, check_finite, first_line, most_bytes
from models.weights import check_installed
from tasks.table import TASKS, Task

if TYPE_CHECKING:
    import keras

MODEL_FILE = "model.keras"
RECORD_FILE = "model.json"
"""File with facts that the model file lacks: classes, task, kind, cut, temperature."""
THRESHOLDS_FILE = "thresholds.json"
"""File of an export with the threshold of each class, if the run has chosen thresholds."""
OLD_KIND = "image"
"""Kind of input of runs without a record of it: they were made when there was no other."""
LARGEST_TEMPERATURE = 1e6


class TrainedRun(NamedTuple):
    """A finished run."""

    folder: Path
    config: TrainConfig
    """Settings of the run, with all decisions."""
    class_names: tuple[str, ...]
    task: Task
    kind: Kind
    cut: str | None
    """Layer at which the run cut its network in two; None if it measured the network as a whole."""
    temperature: float
    """Divisor of the logits, merged into the model's weights already."""

    @property
    def reader(self) -> Reader:
        """Reads examples as the run did."""
        return self.kind.reader(self.config, self.folder)


def read_run(folder: Path) -> TrainedRun:
    """Reads a run folder, or the best run of a search folder; loads no weights.

    Raises:
        UsageError: the folder is not a finished run.
    """
    if (folder / "best" / MODEL_FILE).is_file() and not (folder / MODEL_FILE).is_file():
        folder = folder / "best"
    if not folder.is_dir():
        raise UsageError(
            f"RUN must be a run folder, as train.py makes them below runs/; there is no folder '{folder}'."
            f"{newest_beside(folder, _holds_run)}"
        )
    if is_unfinished(folder):
        raise UsageError(f"'{folder}' is a run that is not finished. Continue with: {resume_command(folder)}")
    missing = [name for name in (CONFIG_FILE, MODEL_FILE, RECORD_FILE, METRICS_FILE) if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"RUN must be the folder of a finished run; '{folder}' has no {' and no '.join(missing)}.")
    config = TrainConfig.from_file(folder / CONFIG_FILE)
    backbones.find_of_run(config.model.backbone)
    try:
        record = read_json(folder / RECORD_FILE)
        _check_record(record)
    except (OSError, ValueError) as error:
        raise UsageError(f"'{folder / RECORD_FILE}' is damaged ({error}).") from None
    kind = find_kind(record.get("kind", OLD_KIND))
    if config.flat()[kind.size_setting] is None:
        raise UsageError(f"'{folder / CONFIG_FILE}' is not from a finished run: it has no {kind.size_setting}.")
    temperature = float(record["temperature"])
    class_names = tuple(map(visible, record["classes"]))
    thresholds = {visible(name): value for name, value in record.get("thresholds", {}).items()}
    return TrainedRun(
        folder,
        config,
        class_names,
        TASKS[record["task"]].with_thresholds(class_names, thresholds),
        kind,
        record["cut"],
        temperature,
    )


def load_model(run: TrainedRun) -> "keras.Model":
    """Loads a run's model; executes no code from the file, and opens no other file.

    Returns:
        A model from tensors of the run's reader, as float32, to probabilities (n, num_outputs).

    Raises:
        UsageError: the file is damaged, not written by Keras, or from another run.
    """
    import tensorflow as tf

    # Loading custom.py, and the modules below, registers the layers that the file may name.
    custom_file()
    backbone = backbones.find_of_run(run.config.model.backbone)
    check_installed(backbone)
    pictured = ["models.sound_picture"] if backbone.picture_size else []
    for module in (backbone.family.builder, "models.detector", *pictured):
        importlib.import_module(module)
    path = run.folder / MODEL_FILE
    try:
        check_model_file(path, most_bytes(backbone.parameters))
        model = open_model(path, backbone)
        check_finite(model)
        inputs = [tuple(tensor.shape[1:]) for tensor in model.inputs]
        outputs = [tuple(tensor.shape) for tensor in model.outputs]
        names = {part.name for part in model.operations}
    except RefusedFileError as error:
        raise UsageError(f"'{path}' cannot be loaded, it {error}.") from None
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:  # Keras may raise any exception
        raise UsageError(
            f"'{path}' cannot be loaded, it is damaged or of another version of Keras ({first_line(error)})."
        ) from error
    read = run.reader.model_inputs
    if inputs != read or not run.task.gives(outputs, len(run.class_names)) or run.cut not in {None, *names}:
        raise UsageError(f"'{path}' is not the model that '{run.folder / RECORD_FILE}' describes.")
    return model


def open_model(path: Path, backbone: backbones.Backbone) -> "keras.Model":
    """Opens a model file that is checked or just written, with the layers of its backbone."""
    import keras

    model = keras.saving.load_model(path, compile=False, safe_mode=True)
    unroll = backbones.find_unroll(backbone)
    return unroll(model) if unroll else model


def check_can_be_loaded(model: "keras.Model") -> None:
    """Checks, before training, that `load_model` will open the model's file.

    Raises:
        UsageError: the model has a part that a model file may not name, or that Keras cannot rebuild.
    """
    import keras

    from devices.whole_batch import flat_layers
    from models.own_layers import OWN_PARTS

    try:
        check_config(json.dumps(keras.saving.serialize_keras_object(model)).encode())
        for layer in flat_layers(model):
            if type(layer) in OWN_PARTS.values():
                again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
                if [weight.shape for weight in again.weights] != [weight.shape for weight in layer.weights]:
                    raise ValueError(f"get_config of {type(layer).__name__} leaves out what its weights depend on")
    except RefusedFileError as error:
        raise UsageError(
            f"This network could not be opened again after training: it {error}. Write what is your own as a class or "
            f"function with @own_part, as CONTRIBUTING.md says under 'Change it in custom.py'."
        ) from None
    except Exception as error:  # a custom layer may raise any exception
        raise UsageError(
            f"This network could not be opened again after training ({first_line(error)}). Let get_config of your "
            f"layers return every argument of __init__."
        ) from error


def _holds_run(folder: Path) -> bool:
    return is_finished(folder) or is_finished(folder / "best")


def _check_record(record: Any) -> None:
    """Raises a ValueError if no run writes such a `model.json`."""
    if not isinstance(record, dict) or not {"classes", "task", "cut", "temperature"} <= record.keys():
        raise ValueError("it needs classes, task, cut and temperature")
    classes, task, temperature = record["classes"], record["task"], record["temperature"]
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("classes are no list of names")
    if task not in tuple(TASKS) or not TASKS[task].allows(len(classes)):
        raise ValueError("no such task or classes")
    if len(set(map(visible, classes))) < len(classes):
        raise ValueError("a class is there twice")
    if record.get("kind", OLD_KIND) not in tuple(KINDS):
        raise ValueError("no such kind of input")
    if not isinstance(record["cut"], str | None):
        raise ValueError("cut is no name")
    if not isinstance(record.get("thresholds", {}), dict):
        raise ValueError("thresholds are no table")
    TASKS[task].with_thresholds(classes, record.get("thresholds", {}))
    is_number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not is_number or not 0 < temperature < LARGEST_TEMPERATURE:
        raise ValueError("temperature is no number above 0")
