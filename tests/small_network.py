"""A backbone of a dozen layers: for tests of what is done with a network, whichever it is."""

from pathlib import Path

import keras


def small_network(folder: Path) -> str:
    """Writes the network into a folder, where it is not there yet, and returns its name as a backbone."""
    path = folder / "small.keras"
    if not path.exists():
        keras.utils.set_random_seed(3)
        pictures = keras.Input((32, 32, 3))
        x = keras.layers.Rescaling(1 / 127.5, -1)(pictures)
        for width in (8, 12, 16, 16):
            x = keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
            x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        keras.Model(pictures, x).save(path)
    return str(path)
