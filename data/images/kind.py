"""Pictures as a kind of input."""

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from app.config import Resize, TrainConfig
from app.data_uri import picture_element
from data.arrays import release
from data.code_digest import code_digest
from data.images.decode import SIGNATURE_SIDE, decode_picture, decode_with_signature, read_size
from data.images.depth import depth_cautions
from data.images.look_alikes import compared_values
from data.kinds import (
    Baseline,
    Content,
    Explain,
    GraphReader,
    Inputs,
    Kind,
    ManyInputs,
    Reader,
    Shown,
    Vary,
    policy_of,
    standardized,
)

TINY_SIDE = 8
"""Shorter side, pixels, below which pictures show hardly anything."""
SIZE_STEP = 32
"""Step of useful sizes, pixels: networks halve a picture five times; other sizes waste computation at the border."""
LARGEST_ENLARGEMENT = 4
"""Largest useful factor of enlarging a picture: more adds computation, not information."""
GRID = 16
"""Cells per side for the baseline; more make it slower, not better."""
LONGEST_SHOWN = 224
"""Longest side of a picture on a page, pixels."""
_DECODER = code_digest(decode_picture)


def picture_reader(image_size: int, resize: Resize = "crop") -> Reader:
    """Reads pictures upright, in RGB and as squares of `image_size` pixels; see `app.config.DataConfig`."""

    def read_with_signature(content: bytes) -> tuple[Inputs, np.ndarray]:
        picture, signature = decode_with_signature(content, image_size, resize)
        return (picture,), signature

    return Reader(
        {"image_size": image_size, "resize": resize, "decoder": f"{_DECODER}, pillow {metadata.version('pillow')}"},
        title=f"{image_size} px",
        inputs=(np.dtype((np.uint8, (image_size, image_size, 3))),),
        signature=np.dtype((np.uint8, (SIGNATURE_SIDE, SIGNATURE_SIDE))),
        read=lambda content: (decode_picture(content, image_size, resize),),
        read_with_signature=read_with_signature,
    )


def _reader(config: TrainConfig, folder: Path | None = None) -> Reader:
    return picture_reader(config.data.chosen_size, config.data.resize)


def _shorter_side(place: Content) -> int | None:
    size = read_size(place)
    return size and min(size)


def useful_size(shorter_side: int) -> int:
    """Returns the largest height and width worth computing for pictures of a median shorter side, pixels."""
    return -(-LARGEST_ENLARGEMENT * shorter_side // SIZE_STEP) * SIZE_STEP


def _cautions(shorter_sides: Sequence[int], config: TrainConfig) -> list[str]:
    tiny = sum(side < TINY_SIDE for side in shorter_sides)
    if not tiny:
        return []
    looked_at = f"{tiny:,} of {len(shorter_sides):,} pictures looked at"
    return [f"{looked_at} are less than {TINY_SIDE} pixels high or wide: there is hardly anything to see in them."]


def _shown(pixels: np.ndarray, title: str) -> Shown:
    """Shows a picture, uint8 (height, width, 3), as an element of a page that contains its data."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((LONGEST_SHOWN, LONGEST_SHOWN), Image.Resampling.BOX)
    return Shown(picture_element(picture, title), pixels)


def _vary(name: str = "mild") -> Vary:
    from data.images.policies import POLICIES

    return policy_of(name, POLICIES)


def _explain(
    model: Any, reader: Reader, inputs: ManyInputs, contents: Sequence[Content], classes: np.ndarray
) -> list[Shown]:
    from data.images.explain import grad_cam, overlay

    (pictures,) = cast(Inputs, inputs)
    looked = map(overlay, pictures, grad_cam(model, pictures, classes))
    return [_shown(each, "what it looked at") for each in looked]


def _graph_reader() -> GraphReader:
    from data.images.decode_ops import FORMATS, decode_picture

    return GraphReader(
        tuple(FORMATS),
        lambda content, config: (decode_picture(content, config.data.chosen_size, config.data.resize),),
    )


def _grid_means(inputs: ManyInputs, contents: Sequence[Content], positions: np.ndarray) -> np.ndarray:
    """Averages each picture over a grid of GRID x GRID cells."""
    (pixels,) = cast(Inputs, inputs)
    edges = np.linspace(0, pixels.shape[1], GRID + 1).astype(int)[:-1]
    cells = np.diff([*edges, pixels.shape[1]])
    area = cells[:, None, None] * cells[None, :, None]
    means = []
    for position in positions:
        rows = np.add.reduceat(pixels[position].astype(np.float32), edges, axis=0)
        means.append(np.add.reduceat(rows, edges, axis=1) / area)
        release(pixels)
    return np.stack(means).reshape(len(positions), -1)


KIND = Kind(
    "image",
    noun="picture",
    nouns="pictures",
    endings=(".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".jp2", ".heic"),
    size_setting="image_size",
    reader=_reader,
    compared_values=compared_values,
    comparison=code_digest(compared_values),
    size=_shorter_side,
    useful_size=useful_size,
    cautions=_cautions,
    show=lambda inputs, place, title: _shown(inputs[0], title),
    vary=_vary,
    policies=("mild", "flip", "vertical", "rotate", "medical", "randaugment"),
    explain=Explain(
        _explain,
        "Where it looked (Grad-CAM)",
        "On the right, bright areas spoke for the answer (Grad-CAM). If they lie beside the object, the model looks at "
        "the wrong thing.",
    ),
    baseline=Baseline("raw_pixels", _grid_means, standardized, strength=0.01, most_examples=5_000),
    backbone="efficientnet_lite0",
    has_mirror=True,
    look_cautions=depth_cautions,
    graph_reader=_graph_reader,
)
