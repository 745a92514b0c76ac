"""Reads one picture file as the network sees it: upright, RGB, 8 bits, resized.

Everything that reads a picture comes through `decode_picture`, so that no two readings can differ.
"""

import contextlib
import errno
import functools
import io
import os
import re
import stat
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from config import Resize

MAX_PIXELS = 100_000_000
"""Pictures of more pixels are refused by their header: they would take up to 2 GB while being decoded."""
LARGE_PIXELS = 20_000_000
"""Pictures of more pixels are decoded one at a time, whatever the number of threads."""
MAX_BYTES = 200_000_000
"""Files of more bytes are refused without opening them."""
MAX_SECONDS = 60.0
"""Of processor time for one picture: 100 million pixels take 5 as a progressive JPEG, 40 as JPEG 2000."""
UNTIMED_BYTES = 4_000
"""Decoded without a look at the clock, of the largest JPEG; for 10 of them it may go over all its pixels again."""
LOOK_SIZE = 16
"""Height and width of the small pictures by which look-alikes are found, pixels."""
ZOOM = 0.875
"""Share of a photo's middle that is kept by `crop`."""

FORMATS = ["AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP"]
"""What is read, of all that Pillow could: formats of pixels alone, none that starts another program."""

_one_large_picture = threading.Lock()
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses twice as many, in a picture within an icon as well
warnings.filterwarnings("ignore", module=r"PIL\.")  # a picture is read or refused, and its odd details are no news


Converted = TypeVar("Converted")


class UnreadablePictureError(Exception):
    """The file is no picture that can be trusted; the message says why in a few words."""


class UnreadableNowError(UnreadablePictureError):
    """The system could not read the file, which may be otherwise later."""


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
        raise UnreadableNowError(_link_reason(path, error) or error.strerror or str(error)) from None
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
    return _decode(content, image_size, lambda rgb: _square(rgb, image_size, resize))


def decode_with_look(content: bytes, image_size: int, resize: Resize) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a picture as `decode_picture` does; also returns its look, see `make_look`."""
    return _decode(content, image_size, lambda rgb: (_square(rgb, image_size, resize), make_look(rgb)))


def make_look(picture: Image.Image) -> np.ndarray:
    """A small grey version of a whole picture, by which look-alikes are found; uint8 (LOOK_SIZE, LOOK_SIZE).

    It depends neither on the size that the network takes nor on how a picture becomes a square, but for the rounding of
    a JPEG that is decoded at a part of its size: the same data has the same splits for every network.
    """
    return np.asarray(picture.convert("L").resize((LOOK_SIZE, LOOK_SIZE), Image.Resampling.BOX))


def _decode(content: bytes, image_size: int, convert: Callable[[Image.Image], Converted]) -> Converted:
    """Decodes a picture, upright and in RGB, and returns what `convert` makes of it."""
    stream = _TimedBytes(content) if len(content) > UNTIMED_BYTES else io.BytesIO(content)
    try:
        with Image.open(stream, formats=_formats()) as picture, _check_header(picture):
            # A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size; twice the target keeps every visible detail.
            picture.draft("RGB", (2 * image_size, 2 * image_size))
            ImageOps.exif_transpose(picture, in_place=True)
            return convert(_to_rgb(picture, picture.format))
    except UnreadablePictureError:
        raise
    except Exception as error:  # a decoder may raise anything on a hostile file
        raise UnreadablePictureError(_reason(error, content)) from None


def _square(rgb: Image.Image, image_size: int, resize: Resize) -> np.ndarray:
    return np.asarray(_RESIZE[resize](rgb, (image_size, image_size)))


def read_size(path: Path) -> tuple[int, int] | None:
    """Returns (width, height) in pixels as the header has them, or None if the file is no picture."""
    try:
        if not path.is_file():
            return None
        with _TimedFile(io.FileIO(path)) as stream, Image.open(stream, formats=_formats()) as picture:
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


class _Timed:
    """A stream that gives no more when what its reader has computed since the start has taken too long.

    Threads cannot be stopped, but a decoder that wants more bytes can. One that takes the whole file at once (WebP,
    AVIF, TIFF, most of JPEG 2000) is bounded by the pixel limit alone. What counts is the processor time of the thread:
    neither a busy machine nor a sleeping one refuses a good picture.
    """

    def __init__(self, source: bytes | io.FileIO):
        super().__init__(source)  # type: ignore[call-arg]  # of the stream that is mixed in
        self._deadline = time.thread_time() + MAX_SECONDS

    def read(self, size: int | None = -1) -> bytes:
        if time.thread_time() > self._deadline:
            raise UnreadablePictureError(f"takes more than {MAX_SECONDS:g} seconds to decode")
        return super().read(size)  # type: ignore[misc]  # likewise


class _TimedBytes(_Timed, io.BytesIO):
    pass


class _TimedFile(_Timed, io.BufferedReader):
    pass


def _check_header(picture: Image.Image) -> contextlib.AbstractContextManager:
    """Refuses what has no pixels, and bounds the time; returns what to hold while decoding."""
    num_pixels = picture.width * picture.height
    if num_pixels == 0:
        raise UnreadablePictureError("no pixels")
    if isinstance(picture, JpegImageFile):
        picture.decodermaxblock = min(picture.decodermaxblock, int(UNTIMED_BYTES * MAX_PIXELS / num_pixels))
    return _one_large_picture if num_pixels > LARGE_PIXELS else contextlib.nullcontext()


def _link_reason(path: Path, error: OSError) -> str | None:
    """Says what is wrong with a link; None if the file is none, or something else is wrong."""
    if error.errno == errno.ELOOP:
        return "a link that leads to itself"
    return "a broken link" if error.errno == errno.ENOENT and os.path.islink(path) else None


def _reason(error: Exception, content: bytes) -> str:
    """Says in plain words why a picture cannot be read."""
    if isinstance(error, UnidentifiedImageError):
        return next(
            (kind for pattern, kind in _OTHER_KINDS.items() if re.match(pattern, content, re.DOTALL)), "not a picture"
        )
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return next(
        (plain for pattern, plain in _PLAIN_WORDS.items() if re.search(pattern, said)), f"cannot be decoded: {said}"
    )


_OTHER_KINDS = {
    rb"\Z": "empty file",
    rb"....ftyp(heic|heix|heim|heis|mif1|msf1)": "a HEIC picture, which is not read; save it as JPEG",
    rb"....ftyp(isom|iso2|mp4|M4V|avc1|3gp|qt)": "a video, not a picture",
    rb"\s*(<\?xml[^>]*>\s*)?<svg": "an SVG drawing, which is not read; save it as PNG",
    rb"(?i)\s*(<!doctype html|<html)": "a web page, not a picture",
    rb"%PDF": "a PDF, not a picture",
    rb"PK\x03\x04": "a ZIP archive, not a picture",
    rb"\x89PNG|\xff\xd8\xff[\xdb\xe0-\xef]|GIF8|RIFF....WEBP|II\*\0|MM\0\*|....ftypavi": "damaged: its start is broken",
}
"""What a file that is no picture for Pillow begins with, and what to say of it."""
_PLAIN_WORDS = {
    r"(?i)truncated": "truncated: the end of the file is missing",
    r"decompression bomb": f"too many pixels, more than the limit of {MAX_PIXELS:,}",
    r"(?i)broken|decode|stream|next frame|overrun": "damaged: its pixels cannot be decoded",
}
"""What Pillow says, and what it means."""


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
