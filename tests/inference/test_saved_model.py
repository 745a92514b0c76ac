"""A SavedModel decodes picture files as the rest of the project does, and names the answers as it does."""

import functools
import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data.images import decode_ops
from data.images.decode import MAX_PIXELS, decode_picture
from exports.saved_model import name_labels
from tasks.answers import label_texts
from tasks.classification import MULTICLASS, MULTILABEL

SIZES = ((640, 480), (300, 400), (100, 60), (40, 45))
"""Of pictures, width and height; some are decoded smaller, some are zoomed, some enlarged."""


def smooth_picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture with shapes as photos have them, and a little noise."""
    generator = np.random.default_rng(seed)
    shapes = Image.fromarray(generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    noisy = np.asarray(shapes, np.float32) + generator.normal(0, 6, (size[1], size[0], 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def transparent(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    picture.putalpha(smooth_picture(picture.size, seed=1).convert("L"))
    return picture


def encode(picture: Image.Image, kind: str, **settings) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **settings)
    return stream.getvalue()


def oriented(picture: Image.Image, orientation: int, byte_order: str = "<", kind: str = "JPEG") -> bytes:
    """A file that says how the camera was held, behind another tag."""
    exif = Image.Exif()
    exif.endian = byte_order
    exif[0x010F] = "maker"
    exif[0x0112] = orientation
    return encode(picture, kind, exif=exif.tobytes())


def sixteen_bits(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 255)


KINDS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda picture: encode(picture, "JPEG"),
    "progressive jpeg": lambda picture: encode(picture, "JPEG", progressive=True, subsampling=0),
    "grey jpeg": lambda picture: encode(picture.convert("L"), "JPEG"),
    "cmyk jpeg": lambda picture: encode(picture.convert("CMYK"), "JPEG"),
    "png": lambda picture: encode(picture, "PNG"),
    "grey png": lambda picture: encode(picture.convert("L"), "PNG"),
    "png of 1 bit": lambda picture: encode(picture.convert("1", dither=Image.Dither.NONE), "PNG"),
    "png of 16 bits": lambda picture: encode(sixteen_bits(picture), "PNG"),
    "png with a palette": lambda picture: encode(picture.quantize(8, dither=Image.Dither.NONE), "PNG"),
    "transparent png": lambda picture: encode(transparent(picture), "PNG"),
    "transparent grey png": lambda picture: encode(transparent(picture).convert("LA"), "PNG"),
    "transparent png with a palette": lambda picture: encode(transparent(picture).quantize(8, method=2), "PNG"),
    "gif": lambda picture: encode(picture.quantize(8, dither=Image.Dither.NONE), "GIF"),
    "bmp": lambda picture: encode(picture, "BMP"),
    "webp": lambda picture: encode(picture, "WEBP"),
    "transparent webp": lambda picture: encode(transparent(picture), "WEBP"),
}


@functools.cache
def decoder(image_size: int, resize: str) -> Callable[[bytes], tf.Tensor]:
    signature = [tf.TensorSpec((), tf.string)]
    return tf.function(
        lambda content: decode_ops.decode_picture(content, image_size, resize), signature, autograph=False
    )


def assert_decoded_alike(content: bytes, image_size: int, resize: str) -> None:
    """A value may differ by rounding: by one, and where Pillow resizes columns first by a few more."""
    expected = decode_picture(content, image_size, resize).astype(np.float32)
    difference = np.abs(decoder(image_size, resize)(content).numpy() - expected)
    assert difference.max() <= 4
    assert difference.mean() <= 0.4


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_is_read_as_in_training(kind, resize):
    for size in SIZES:
        assert_decoded_alike(KINDS[kind](smooth_picture(size)), 64, resize)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(orientation, byte_order, kind):
    content = oriented(smooth_picture((90, 60)), orientation, byte_order, kind)
    stored = decode_picture(oriented(smooth_picture((90, 60)), 1, kind=kind), 48, "pad")
    assert (decode_picture(content, 48, "pad") != stored).any() == (orientation != 1)
    for resize in ("crop", "pad", "stretch"):
        assert_decoded_alike(content, 48, resize)


def test_an_orientation_behind_other_segments_is_found():
    plain, said = encode(smooth_picture((90, 60)), "JPEG"), oriented(smooth_picture((90, 60)), 6)
    start = said.index(b"\xff\xe1")
    segment = said[start : start + 2 + struct.unpack(">H", said[start + 2 : start + 4])[0]]
    comment = b"\xff\xfe" + struct.pack(">H", 60_002) + b"\xff" * 60_000
    filling = b"\xff\xff\xff"
    content = plain[:2] + comment + filling + segment + plain[2:]
    assert_decoded_alike(content, 48, "stretch")
    assert np.abs(decode_picture(content, 48, "stretch").astype(int) - decode_picture(plain, 48, "stretch")).mean() > 10


def test_bytes_that_resemble_a_marker_hide_no_orientation():
    said = oriented(smooth_picture((90, 60)), 6)
    decoys = b"Exif\0\0" * 5 + b"eXIfEXIFII*\0"
    content = said[:2] + b"\xff\xfe" + struct.pack(">H", len(decoys) + 2) + decoys + said[2:]
    assert_decoded_alike(content, 48, "stretch")


@pytest.mark.parametrize(
    "cut", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"other"]
)
def test_damaged_exif_data_leaves_a_picture_as_it_is(cut):
    plain = encode(smooth_picture((90, 60)), "JPEG")
    content = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(cut) + 2) + cut + plain[2:]
    np.testing.assert_array_equal(decoder(48, "stretch")(content), decoder(48, "stretch")(plain))


def bomb() -> bytes:
    content = bytearray(encode(Image.new("1", (8, 8)), "PNG"))
    content[16:24] = struct.pack(">II", MAX_PIXELS // 1000, 1001)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "must be JPEG, PNG, GIF, BMP, WebP"),
        (b"<html>404</html>", "must be JPEG, PNG, GIF, BMP, WebP"),
        (encode(smooth_picture((20, 20)), "TIFF"), "must be JPEG, PNG, GIF, BMP, WebP"),
        (encode(smooth_picture((20, 20)).quantize(8), "BMP"), "24 or 32 bits"),
        (encode(smooth_picture((90, 90)), "JPEG")[:600], "JPEG"),
        (bomb(), "A picture may have 100,000,000 pixels"),
    ],
    ids=["empty", "html", "tiff", "bmp with a palette", "truncated", "bomb"],
)
def test_what_tensorflow_cannot_decode_is_refused_and_not_guessed(content, reason):
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        decoder(32, "crop")(content)


@pytest.mark.parametrize("task", [MULTICLASS, MULTILABEL])
def test_labels_are_those_of_the_table_of_predictions(task):
    names = ("a|b", "|", "日本")
    probabilities = np.array([[0.9, 0.8, 0.7], [0.1, 0.2, 0.3], [0.5, 0.2, 0.5], [0.2, 0.6, 0.6]], np.float32)
    found = [label.decode() for label in name_labels(tf.constant(probabilities), names, task).numpy()]
    assert found == label_texts(task.predicted(probabilities), names)
