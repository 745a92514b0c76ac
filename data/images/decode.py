"""Reads one picture file as the network sees it: upright, RGB, 8 bits, resized.

All code that reads pictures calls `decode_picture`, so a picture always becomes the same pixels.
"""

import functools
import io
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from app.config import Resize
from app.files import open_regular
from data.content import Budget, UnreadableError, content_of
from data.kinds import Content, Part

MAX_PIXELS = 100_000_000
"""Most pixels of a picture; larger ones are refused by their header."""
BYTES_PER_PIXEL = {"JPEG2000": 24, "WEBP": 17}
"""Most bytes per pixel for decoding, measured on 100 million pixels; `OTHER_BYTES` for other formats."""
OTHER_BYTES = 12
MAX_MEMORY = OTHER_BYTES * MAX_PIXELS
"""Bytes that all threads together may use for decoding; with TensorFlow, a process then stays below 2 GB."""
MAX_SIDE = 65_535
"""Longest side of a picture, pixels: for long lines, Pillow keeps far more than the pixels."""
STRIP = 2**20
"""Pixels that are converted at a time."""
MAX_SECONDS = 60.0
"""Most processor time for one picture: 100 million pixels take 5 as a progressive JPEG, 40 as JPEG 2000."""
UNTIMED_BYTES = 4_000
"""JPEG bytes that the largest picture decodes between two deadline checks; 10 bytes may cost a pass over all pixels."""
SIGNATURE_SIDE = 16
"""Height and width of a signature, pixels."""
ZOOM = 0.875
"""Share of a photo's middle that is kept by `crop`."""

FORMATS = ["AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP"]
"""Formats of Pillow that are read: none that starts another program, and no icons, decoded before any check."""

Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses twice as many
warnings.filterwarnings("ignore", module=r"PIL\.")  # a picture is read or refused; details help nobody

Converted = TypeVar("Converted")
_memory = Budget(MAX_MEMORY)


def read_picture(path: Path | str, image_size: int, resize: Resize = "crop") -> np.ndarray:
    """Reads and resizes a picture file; see `content_of` and `decode_picture`."""
    with content_of(path) as content:
        return decode_picture(content, image_size, resize)


def decode_picture(content: bytes, image_size: int, resize: Resize = "crop") -> np.ndarray:
    """Decodes a picture in any of `FORMATS`, and makes it a square as the setting `resize` says.

    Returns:
        uint8 (image_size, image_size, 3) in [0, 255].

    Raises:
        UnreadableError: the file is truncated, too large, or not a picture.
    """
    return _decode(content, image_size, lambda rgb: _square(rgb, image_size, resize))


def decode_with_signature(content: bytes, image_size: int, resize: Resize) -> tuple[np.ndarray, np.ndarray]:
    """Decodes a picture as `decode_picture` does; also returns its signature, see `make_signature`."""
    return _decode(content, image_size, lambda rgb: (_square(rgb, image_size, resize), make_signature(rgb)))


def make_signature(picture: Image.Image) -> np.ndarray:
    """Returns the signature of a whole picture, uint8 (SIGNATURE_SIDE, SIGNATURE_SIDE).

    It does not depend on the input size or on `resize`, except for the rounding of a JPEG decoded at a fraction of its
    size: the same data has the same splits for every network.
    """
    return np.asarray(picture.convert("L").resize((SIGNATURE_SIDE, SIGNATURE_SIDE), Image.Resampling.BOX))


def _decode(content: bytes, image_size: int, convert: Callable[[Image.Image], Converted]) -> Converted:
    """Decodes a picture, upright and in RGB, and returns what `convert` makes of it."""
    stream = _TimedBytes(content) if len(content) > UNTIMED_BYTES else io.BytesIO(content)
    try:
        with Image.open(stream, formats=_formats()) as picture:
            _check_header(picture)
            whole = picture.size
            # A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size; twice the target keeps every visible detail.
            picture.draft("RGB", (2 * image_size, 2 * image_size))
            with _memory.spend(_memory_of(picture, *whole)):
                turn_upright(picture)
                return convert(to_rgb(picture, picture.format))
    except UnreadableError:
        raise
    except Exception as error:  # a decoder may raise anything on a hostile file
        raise UnreadableError(_reason(error, content)) from None


def _square(rgb: Image.Image, image_size: int, resize: Resize) -> np.ndarray:
    return np.asarray(_RESIZE[resize](rgb, (image_size, image_size)))


def read_size(place: Content) -> tuple[int, int] | None:
    """Reads (width, height), pixels, from the header; None if the file is not a picture."""
    return of_header(place, lambda picture: picture.size)


def read_orientation(place: Content) -> tuple[int, int, int] | None:
    """Reads stored width and height, and the EXIF orientation, 1 to 8; None if the file is not a picture."""

    def stored(picture: Image.Image) -> tuple[int, int, int]:
        orientation = _orientation(picture)
        is_upright = picture.format == "TIFF" and orientation >= 5  # of these, Pillow gives the upright size
        return (*(picture.size[::-1] if is_upright else picture.size), orientation)

    return of_header(place, stored)


def turn_upright(picture: Image.Image) -> None:
    """Turns a picture as its EXIF orientation says."""
    if _orientation(picture) != 1:
        ImageOps.exif_transpose(picture, in_place=True)


def _orientation(picture: Image.Image) -> int:
    # Not picture.getexif(), which decodes a PNG to look behind its pixels, where the standard allows none.
    found = Image.Image.getexif(picture).get(ExifTags.Base.Orientation)
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def of_header(place: Content, read: Callable[[Image.Image], Converted]) -> Converted | None:
    """Returns what `read` makes of an opened picture, not decoded yet; None if the file is not a picture."""
    assert not isinstance(place, Part)  # a file holds one picture
    try:
        timed = _TimedBytes(place) if isinstance(place, bytes) else _TimedFile(open_regular(place).detach())
        with timed as stream, Image.open(stream, formats=_formats()) as picture:
            return read(picture)
    except Exception:  # a decoder may raise anything on a hostile file
        return None


def _crop(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Keeps the middle square of the picture, or 7/8 of its sides if the picture has enough pixels.

    Networks are trained on crops of ImageNet's photos and evaluated on the middle 7/8, which shows things at the size
    they know (Touvron et al., 2019). On 153 photos of ants and bees, a regression on MobileNet features is right for
    92.8 % of them stretched or padded, 95.4 % with the whole middle square, 96.1 % with its 7/8. For pictures of 32
    pixels, which show little around the thing itself, 7/8 is 2 points worse than the whole.
    """
    zoomed = min(picture.size) >= size[0] / ZOOM
    return ImageOps.fit(picture, size, Image.Resampling.BICUBIC, bleed=(1 - ZOOM) / 2 if zoomed else 0.0)


_RESIZE: dict[Resize, Callable[[Image.Image, tuple[int, int]], Image.Image]] = {
    "crop": _crop,
    "pad": functools.partial(ImageOps.pad, method=Image.Resampling.BICUBIC, color="black"),
    "stretch": functools.partial(Image.Image.resize, resample=Image.Resampling.BICUBIC),
}
"""Functions that make a picture square."""


@functools.cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


class _Timed:
    """A stream that stops when its reader has used too much processor time.

    A thread cannot be stopped, but a decoder that asks for more bytes can. Decoders that take the whole file at once
    (WebP, AVIF, TIFF, most of JPEG 2000) are bounded by the pixel limit alone. Processor time of the thread counts, so
    that a busy machine never refuses a good picture.
    """

    def __init__(self, source: bytes | io.RawIOBase):
        super().__init__(source)  # type: ignore[call-arg]  # the stream that is mixed in takes it
        self._deadline = time.thread_time() + MAX_SECONDS

    def read(self, size: int | None = -1) -> bytes:
        if time.thread_time() > self._deadline:
            raise UnreadableError(f"takes more than {MAX_SECONDS:g} seconds to decode")
        return super().read(size)  # type: ignore[misc]  # likewise


class _TimedBytes(_Timed, io.BytesIO):
    pass


class _TimedFile(_Timed, io.BufferedReader):
    pass


def _check_header(picture: Image.Image) -> None:
    """Refuses pictures without pixels or with too many, and bounds the time of decoding."""
    num_pixels = picture.width * picture.height
    if num_pixels == 0:
        raise UnreadableError("no pixels")
    if max(picture.size) > MAX_SIDE:
        raise UnreadableError(f"{max(picture.size):,} pixels on a side, more than the limit of {MAX_SIDE:,}")
    if isinstance(picture, JpegImageFile):
        picture.decodermaxblock = min(picture.decodermaxblock, int(UNTIMED_BYTES * MAX_PIXELS / num_pixels))
    most = MAX_MEMORY // BYTES_PER_PIXEL.get(picture.format or "", OTHER_BYTES)
    if num_pixels > most:
        raise UnreadableError(f"too many pixels, more than the limit of {most:,} for {picture.format}")


def _memory_of(picture: Image.Image, width: int, height: int) -> int:
    """Returns the bytes that decoding may take; width and height are those of the whole picture, pixels."""
    needed = picture.width * picture.height * BYTES_PER_PIXEL.get(picture.format or "", OTHER_BYTES)
    if isinstance(picture, JpegImageFile):  # decoded at a part of its size, it may be held whole, in 16 bits
        needed += 2 * picture.layers * width * height
    return min(needed, MAX_MEMORY)


def _reason(error: Exception, content: bytes) -> str:
    """Says in plain words why a picture cannot be read."""
    if isinstance(error, UnidentifiedImageError):
        known = (kind for pattern, kind in _OTHER_KINDS.items() if re.match(pattern, content, re.DOTALL))
        return next(known, "not a picture")
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
"""First bytes of files that Pillow cannot read, and the reason to give."""
_PLAIN_WORDS = {
    r"(?i)truncated": "truncated: the end of the file is missing",
    r"decompression bomb": f"too many pixels, more than the limit of {MAX_PIXELS:,}",
    r"(?i)broken|decode|stream|next frame|overrun": "damaged: its pixels cannot be decoded",
}
"""Messages of Pillow, and their meaning."""


def to_rgb(picture: Image.Image, file_format: str | None) -> Image.Image:
    """Converts any mode of Pillow to RGB; transparent pixels become white."""
    picture.load()  # makes the palette available
    if picture.mode.startswith("I;16") or (picture.mode == "I" and file_format == "PPM"):
        return _in_strips(picture, lambda strip: Image.fromarray((np.asarray(strip) >> 8).astype(np.uint8)))
    if picture.mode in ("I", "F"):
        return _in_strips(picture, _stretch(picture))
    if picture.has_transparency_data:
        return _in_strips(picture, _on_white)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _in_strips(picture: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Converts a picture to RGB a few rows at a time: intermediate results would take several times its memory."""
    rgb = Image.new("RGB", picture.size)
    for strip, top in _strips(picture):
        rgb.paste(convert(strip).convert("RGB"), (0, top))
    return rgb


def _strips(picture: Image.Image) -> Iterator[tuple[Image.Image, int]]:
    height = max(1, STRIP // picture.width)
    for top in range(0, picture.height, height):
        yield picture.crop((0, top, picture.width, min(top + height, picture.height))), top


def _on_white(strip: Image.Image) -> Image.Image:
    rgba = strip.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)


def _stretch(picture: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Returns a function that maps values without a fixed white (32 bits, floats) from their range to [0, 255]."""
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for strip, _ in _strips(picture):
        values = np.asarray(strip, np.float32)
        finite = np.isfinite(values)
        low = np.minimum(low, values.min(where=finite, initial=np.inf))
        high = np.maximum(high, values.max(where=finite, initial=-np.inf))
    if low > high:
        raise UnreadableError("no finite values")

    def convert(strip: Image.Image) -> Image.Image:
        values = np.asarray(strip, np.float32)
        if low == high:
            return Image.new("L", strip.size, int(np.clip(low, 0, 255)))
        spread = (np.where(np.isfinite(values), values, low) - low) / (high - low) * 255
        return Image.fromarray(np.round(spread).astype(np.uint8))

    return convert
