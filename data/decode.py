"""Reads one picture file as the network sees it: upright, RGB, 8 bits, resized.

Everything that reads a picture comes through `decode_picture`, so that no two readings can differ.
"""

import contextlib
import functools
import io
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from config import Resize

DECODER = 1
"""Raise it when a file gives other pixels than before: what was computed from them is then computed again."""
MAX_PIXELS = 100_000_000
"""Pictures of more pixels are refused by their header: they would take up to 2 GB while being decoded."""
LARGE_PIXELS = 20_000_000
"""Pictures of more pixels are decoded one at a time, whatever the number of threads."""
MAX_BYTES = 200_000_000
"""Files of more bytes are refused without opening them."""
ZOOM = 0.875
"""Share of a photo's middle that is kept by `crop`."""

FORMATS = ["AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP"]
"""What is read, of all that Pillow could: formats of pixels alone, none that starts another program."""

_one_large_picture = threading.Lock()
Image.MAX_IMAGE_PIXELS = None  # replaced by MAX_PIXELS, which is checked before any decoding


class UnreadablePictureError(Exception):
    """The file is no picture that can be trusted; the message says why in a few words."""


def read_picture(path: Path | str, image_size: int, resize: Resize = "crop") -> np.ndarray:
    """Reads and resizes a picture file; see `read_content` and `decode_picture`."""
    return decode_picture(read_content(Path(path)), image_size, resize)


def read_content(path: Path) -> bytes:
    """Returns the bytes of a picture file.

    Raises:
        UnreadablePictureError: the file is missing, empty, too large or may not be read.
    """
    try:
        status = path.stat()
        size = status.st_size
        if not stat.S_ISREG(status.st_mode):
            raise UnreadablePictureError("not a file")
        if size == 0:
            raise UnreadablePictureError("empty file")
        if size > MAX_BYTES:
            raise UnreadablePictureError(f"{size:,} bytes, more than the limit of {MAX_BYTES:,}")
        return path.read_bytes()
    except OSError as error:
        raise UnreadablePictureError(error.strerror or str(error)) from None
    except ValueError as error:  # a name that no file can have
        raise UnreadablePictureError(str(error)) from None


def decode_picture(content: bytes, image_size: int, resize: Resize = "crop") -> np.ndarray:
    """Decodes and resizes a picture.

    Args:
        content: an encoded picture in any format that Pillow reads.
        image_size: height and width of the result, pixels.
        resize: how it becomes a square; see `config.TrainConfig`.

    Returns:
        uint8 (image_size, image_size, 3) in [0, 255].

    Raises:
        UnreadablePictureError: truncated, too large, or no picture.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_formats()) as picture, _check_header(picture):
            # A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size; twice the target keeps every visible detail.
            picture.draft("RGB", (2 * image_size, 2 * image_size))
            ImageOps.exif_transpose(picture, in_place=True)
            rgb = _to_rgb(picture, picture.format)
            return np.asarray(_RESIZE[resize](rgb, (image_size, image_size)))
    except UnreadablePictureError:
        raise
    except UnidentifiedImageError:
        raise UnreadablePictureError("not a picture") from None
    except Exception as error:  # a decoder may raise anything on a hostile file
        raise UnreadablePictureError(" ".join(str(error).split())[:200] or type(error).__name__) from None


def read_size(path: Path) -> tuple[int, int] | None:
    """Returns (width, height) in pixels as the header has them, or None if the file is no picture."""
    try:
        if not path.is_file():
            return None
        with Image.open(path, formats=_formats()) as picture:
            return picture.size
    except Exception:  # a decoder may raise anything on a hostile file
        return None


def _crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Keeps the middle: a square as high or wide as the picture, or 7/8 of that where it has the pixels for it.

    Networks are trained on parts of ImageNet's photos and judged by the middle 7/8, which shows things at the size
    they know (Touvron et al., 2019). Of 153 photos of ants and bees, a regression on MobileNet features gets 92.8 %
    right when stretched or padded, 95.4 % by the whole middle square, 96.1 % by its 7/8. Of pictures of 32 pixels,
    which show little but the thing itself, 7/8 gets 2 points less than the whole.
    """
    zoomed = min(picture.size) >= size[0] / ZOOM
    return ImageOps.fit(picture, size, Image.Resampling.BICUBIC, bleed=(1 - ZOOM) / 2 if zoomed else 0.0)


_RESIZE: dict[Resize, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "crop": _crop,
    "pad": functools.partial(ImageOps.pad, method=Image.Resampling.BICUBIC, color="black"),
    "stretch": functools.partial(Image.Image.resize, resample=Image.Resampling.BICUBIC),
}
"""How a picture becomes a square."""


@functools.cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_header(picture: Image.Image) -> contextlib.AbstractContextManager:
    """Refuses what is too large; returns what to hold while decoding."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise UnreadablePictureError(f"{width} x {height} pixels, more than the limit of {MAX_PIXELS:,}")
    if width * height == 0:
        raise UnreadablePictureError("no pixels")
    return _one_large_picture if width * height > LARGE_PIXELS else contextlib.nullcontext()


def _to_rgb(picture: Image.Image, file_format: str | None) -> Image.Image:
    """Converts any mode of Pillow to RGB; what is transparent becomes white."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and file_format == "PPM"):
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        picture = Image.fromarray(_stretch(np.asarray(picture, np.float32)))
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _stretch(values: np.ndarray) -> np.ndarray:
    """Maps values of a picture without a fixed white (32 bits, or floats) from their own range to [0, 255], uint8."""
    finite = np.isfinite(values)
    if not finite.any():
        raise UnreadablePictureError("no finite values")
    low, high = values[finite].min(), values[finite].max()
    if low == high:
        return np.full(values.shape, np.clip(low, 0, 255), np.uint8)
    return np.round((np.where(finite, values, low) - low) / (high - low) * 255).astype(np.uint8)
