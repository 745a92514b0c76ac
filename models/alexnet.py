"""AlexNet in torchvision's form: "One weird trick for parallelizing convolutional neural networks" (Krizhevsky, 2014,
arXiv:1404.5997), without the two groups and the local normalization of 2012, up to its last feature map.

torchvision's weights (`alexnet-owt-7be5be79.pth`) become a file for `--weights` by

    python -m models.alexnet alexnet-owt-7be5be79.pth alexnet.weights.h5
"""

import argparse
import pickle
import zipfile
from pathlib import Path

import keras
from keras import layers

from app.cli import run_command
from app.errors import UsageError
from models.applications import build_flat
from models.backbones import Backbone
from models.parts import Parts
from models.torch_file import read_state_dict
from models.weight_file import first_line

CONVOLUTIONS = ((64, 11, 4, True), (192, 5, 1, True), (384, 3, 1, False), (256, 3, 1, False), (256, 3, 1, True))
"""Filters, kernel size and stride of each convolution, and whether pooling follows."""
IN_TORCH = (0, 3, 6, 8, 10)
"""Indices of the convolutions within torchvision's `features`."""


def preprocess_input(x: keras.KerasTensor) -> keras.KerasTensor:
    """Scales float pixels in [0, 255] by mean and deviation of ImageNet's colours."""
    return keras.applications.imagenet_utils.preprocess_input(x, mode="torch")


def build(backbone: Backbone, image_size: int, weights: str | None, include_top: bool) -> Parts:
    """Builds AlexNet behind its preprocessing; see `models.backbones.build`."""
    return build_flat(AlexNet, preprocess_input, backbone, image_size, weights, include_top)


def AlexNet(  # noqa: N802 - named and called like the networks of keras.applications
    include_top: bool = False,
    weights: str | None = None,
    input_shape: tuple[int, int, int] | None = None,
    input_tensor: keras.KerasTensor | None = None,
) -> keras.Model:
    """Builds AlexNet with random weights and without its dense layers; the first two arguments are ignored.

    Returns:
        A model from preprocessed float32 pictures to features, (n, 6, 6, 256) for 224 pixels.
    """
    x = layers.Input(input_shape or (224, 224, 3)) if input_tensor is None else input_tensor
    inputs = keras.utils.get_source_inputs(x)
    for number, (filters, size, stride, pools) in enumerate(CONVOLUTIONS, start=1):
        x = layers.ZeroPadding2D(2 if number == 1 else size // 2, name=f"conv{number}_pad")(x)
        x = layers.Conv2D(filters, size, stride, activation="relu", name=f"conv{number}")(x)
        if pools:
            x = layers.MaxPooling2D(3, 2, name=f"pool{number}")(x)
    return keras.Model(inputs, x, name="alexnet")


def convert(torch_file: Path, weights_file: Path) -> None:
    """Converts a file of torchvision to one for `--weights`, ending in .weights.h5. Nothing in the file is executed."""
    state = read_state_dict(torch_file.read_bytes())
    model = AlexNet()
    for number, place in enumerate(IN_TORCH, start=1):
        kernel, bias = (state[f"features.{place}.{part}"] for part in ("weight", "bias"))
        model.get_layer(f"conv{number}").set_weights([kernel.transpose(2, 3, 1, 0), bias])
    model.save_weights(weights_file)


def main() -> None:
    """Converts as told by the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("torch_file", type=Path, help="file of torchvision")
    parser.add_argument("weights_file", type=Path, help="file to write, ending in .weights.h5")
    flags = parser.parse_args()
    try:
        convert(flags.torch_file, flags.weights_file)
    except (ValueError, LookupError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        told = f"'{flags.torch_file}' cannot become '{flags.weights_file}': {first_line(error)}"
        raise UsageError(f"{told}. Give torchvision's file of AlexNet, and a name that ends in .weights.h5.") from error


if __name__ == "__main__":
    run_command(main)
