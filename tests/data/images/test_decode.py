"""Every kind of picture is read upright and in RGB, or refused with the reason."""

import io
import os
import queue
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data.content
import data.images.decode
from data.content import UnreadableError
from data.images.decode import MAX_PIXELS, MAX_SIDE, decode_picture, read_orientation, read_picture, read_size
from tests.bounded import READ, open_all
from tests.conftest import make_picture
from tests.data.images.odd_pictures import ODD, png

SIZE = 32
RED, BLUE = (220, 30, 30), (30, 30, 220)


def encode(picture: Image.Image, kind: str, **settings) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **settings)
    return stream.getvalue()


def two_halves(size: tuple[int, int] = (40, 40)) -> Image.Image:
    """Red above, blue below."""
    picture = Image.new("RGB", size, RED)
    picture.paste(BLUE, (0, size[1] // 2, size[0], size[1]))
    return picture


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_every_format_keeps_its_colours(kind):
    pixels = decode_picture(encode(two_halves(), kind), SIZE)
    assert pixels.shape == (SIZE, SIZE, 3)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[4, 16], RED, atol=12)
    np.testing.assert_allclose(pixels[-4, 16], BLUE, atol=12)


@pytest.mark.parametrize(("mode", "kind"), [("P", "PNG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("CMYK", "TIFF")])
def test_every_colour_mode_becomes_rgb(mode, kind):
    pixels = decode_picture(encode(two_halves().convert(mode), kind), SIZE)
    np.testing.assert_allclose(pixels[4, 16], RED, atol=20)


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_three_equal_channels(mode):
    pixels = decode_picture(encode(make_picture(0).convert(mode), "PNG"), SIZE)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_their_brightness(kind):
    ramp = np.linspace(0, 65535, SIZE).astype(np.uint16)
    picture = Image.fromarray(np.tile(ramp, (SIZE, 1)))
    pixels = decode_picture(encode(picture, kind), SIZE)
    np.testing.assert_array_equal(pixels[0, :, 0], ramp >> 8)


def test_floats_are_stretched_to_the_whole_range():
    picture = Image.fromarray(np.tile(np.linspace(-3, 5, SIZE).astype(np.float32), (SIZE, 1)))
    pixels = decode_picture(encode(picture, "TIFF"), SIZE)
    assert (pixels.min(), pixels.max()) == (0, 255)


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_transparent_becomes_white(mode):
    picture = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, SIZE, SIZE // 2))
    pixels = decode_picture(encode(picture.convert(mode), "PNG"), SIZE)
    assert pixels[2, 2].max() <= 5
    assert pixels[-2, -2].min() >= 250


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(orientation):
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = two_halves((60, 40))
    stored = upright.transpose(turns[orientation]) if orientation in turns else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode_picture(encode(stored, "JPEG", exif=exif, quality=95), SIZE)
    np.testing.assert_allclose(pixels, decode_picture(encode(upright, "JPEG", quality=95), SIZE), atol=16)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_the_stored_size_and_the_orientation_are_those_of_the_header(kind, orientation, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.new("RGB", (60, 40)), kind, exif=exif)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("the pixels are decoded"))
    assert read_orientation(content) == (60, 40, orientation)


@pytest.mark.parametrize(("form", "value"), [(1, b"\x06"), (2, b"6\0"), (3, b"\x09\0"), (7, b"\x06")])
def test_an_orientation_that_is_no_number_from_1_to_8_is_none(form, value):
    tag = struct.pack("<HHI4s", 0x0112, form, len(value) if form != 3 else 1, value)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + tag + bytes(4)
    assert read_orientation(encode(Image.new("RGB", (60, 40)), "JPEG", exif=exif)) == (60, 40, 1)


def test_the_name_does_not_matter(tmp_path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encode(two_halves(), "PNG"))
    np.testing.assert_allclose(read_picture(path, SIZE)[4, 16], RED, atol=2)


def test_a_large_jpeg_is_close_to_its_full_decoding():
    big = two_halves((1600, 1200))
    full = np.asarray(big.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.int16)
    assert np.abs(decode_picture(encode(big, "JPEG"), SIZE) - full).mean() < 2


def bomb() -> bytes:
    """A PNG that says it has 20,000 x 20,000 pixels."""
    content = bytearray(encode(Image.new("1", (8, 8)), "PNG"))
    content[16:24] = (20_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"<html>404</html>", "not a picture"),
        (encode(make_picture(0, size=(200, 200)), "JPEG")[:2000], "truncated"),
        (encode(make_picture(0, size=(200, 200)), "PNG")[:2000], "truncated"),
        (bomb(), "too many pixels, more than the limit of 100,000,000"),
    ],
    ids=["empty", "html", "truncated jpeg", "truncated png", "bomb"],
)
def test_what_cannot_be_trusted_is_refused_with_the_reason(tmp_path, content, reason):
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=reason):
        read_picture(path, SIZE)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()], ids=["missing", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, make):
    make(tmp_path / "x.jpg")
    with pytest.raises(UnreadableError, match=r"No such file|not a file"):
        read_picture(tmp_path / "x.jpg", SIZE)


def test_the_three_ways_to_a_square():
    wide = Image.new("RGB", (90, 30), BLUE)
    wide.paste(RED, (30, 0, 60, 30))
    encoded = encode(wide, "PNG")
    cropped, padded, stretched = (decode_picture(encoded, 30, resize) for resize in ("crop", "pad", "stretch"))
    assert (cropped == RED).all()
    assert (padded[0] == 0).all()
    assert padded[15, 15].tolist() == list(RED)
    assert padded[15, 2].tolist() == list(BLUE)
    assert stretched[0, 15].tolist() == list(RED)
    assert stretched[0, 2].tolist() == list(BLUE)


@pytest.mark.parametrize(("frame", "is_seen"), [(12, False), (20, True)])
def test_a_crop_is_the_middle_seven_eighths_of_the_sides(frame, is_seen):
    picture = Image.new("RGB", (256, 256), RED)
    picture.paste(BLUE, (frame, frame, 256 - frame, 256 - frame))
    cropped = decode_picture(encode(picture, "PNG"), 128, "crop")
    assert (cropped != BLUE).any() == is_seen


def test_a_sixteen_bit_pgm_keeps_its_brightness():
    content = b"P5 2 1 65535\n" + (30_000).to_bytes(2, "big") + (30_100).to_bytes(2, "big")
    assert set(decode_picture(content, SIZE, "stretch").ravel()) == {30_000 >> 8}


def test_a_constant_float_picture_is_not_torn_apart():
    picture = Image.fromarray(np.full((8, 8), 100, np.float32))
    assert set(decode_picture(encode(picture, "TIFF"), SIZE).ravel()) == {100}


def test_formats_that_start_other_programs_are_refused():
    with pytest.raises(UnreadableError, match="not a picture"):
        decode_picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", SIZE)


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableError, match="not a file"):
        read_picture(tmp_path / "pipe.jpg", SIZE)
    assert read_size(tmp_path / "pipe.jpg") is None


def test_a_picture_that_takes_too_long_is_given_up(monkeypatch, tmp_path):
    ODD["many scans"].write(tmp_path / "x.jpg", make_picture(0))
    content = (tmp_path / "x.jpg").read_bytes()
    monkeypatch.setattr("data.images.decode.MAX_SECONDS", 0.5)
    with pytest.raises(UnreadableError, match=r"^takes more than 0\.5 seconds to decode$"):
        decode_picture(content, SIZE)


def test_a_header_that_takes_too_long_has_no_size(monkeypatch, tmp_path):
    content = encode(make_picture(0), "JPEG")
    (tmp_path / "x.jpg").write_bytes(content[:2] + b"\xff\xef\x00\x02" * 200_000 + content[2:])
    assert read_size(tmp_path / "x.jpg") == (48, 40)
    monkeypatch.setattr("data.images.decode.MAX_SECONDS", 0.02)
    assert read_size(tmp_path / "x.jpg") is None
    assert read_size(tmp_path / "nowhere.jpg") is None


@pytest.mark.parametrize("progressive", [False, True])
def test_the_time_limit_changes_no_pixel(monkeypatch, progressive):
    """With so small blocks that a picture is decoded a few bytes at a time."""
    content = encode(make_picture(0, size=(300, 200)), "JPEG", progressive=progressive)
    before = decode_picture(content, SIZE)
    monkeypatch.setattr("data.images.decode.UNTIMED_BYTES", 300 * 200 / MAX_PIXELS * 50)
    np.testing.assert_array_equal(decode_picture(content, SIZE), before)


@pytest.mark.parametrize("size", [(MAX_SIDE + 1, 1), (1, MAX_PIXELS)])
def test_a_picture_that_is_too_long_is_refused_by_its_header(size):
    with pytest.raises(UnreadableError, match=f"{max(size):,} pixels on a side, more than the limit of 65,535"):
        decode_picture(png(*size, 8, 6, b""), SIZE)


def test_strips_change_no_pixel(monkeypatch):
    noise = np.random.default_rng(0).integers(0, 2**16, (50, 40, 4)).astype(np.uint16)
    pictures = {
        "PNG": Image.fromarray(noise.astype(np.uint8)),
        "GIF": Image.fromarray(noise[..., 0].astype(np.uint8)).convert("P"),
        "PPM": Image.fromarray(noise[..., 0]),
        "TIFF": Image.fromarray(noise[..., 0].astype(np.float32)),
    }
    for kind, picture in pictures.items():
        content = encode(picture, kind, **({"transparency": 7} if kind == "GIF" else {}))
        monkeypatch.setattr("data.images.decode.STRIP", 2**20)
        whole = decode_picture(content, 100, "pad")
        monkeypatch.setattr("data.images.decode.STRIP", 90)
        np.testing.assert_array_equal(decode_picture(content, 100, "pad"), whole)


def test_large_pictures_wait_for_each_other_and_small_ones_do_not(monkeypatch):
    """Two of the large ones would take more than all of them may."""
    monkeypatch.setattr("data.images.decode._memory", data.content.Budget(12 * 80 * 80 + 12 * 9 * 9))
    monkeypatch.setattr("data.images.decode.MAX_MEMORY", 12 * 80 * 80 + 12 * 9 * 9)
    begun: queue.Queue[int] = queue.Queue()
    may_end = {side: threading.Semaphore(0) for side in (80, 9)}

    def convert(picture):
        begun.put(picture.width)
        assert may_end[picture.width].acquire(timeout=60)

    def decode(side: int) -> threading.Thread:
        content = encode(Image.new("RGB", (side, side)), "PNG")
        thread = threading.Thread(target=data.images.decode._decode, args=(content, SIZE, convert))
        thread.start()
        return thread

    threads = [decode(80)]
    assert begun.get(timeout=60) == 80
    threads.append(decode(9))
    assert begun.get(timeout=60) == 9, "a small one works beside a large one"
    may_end[9].release()
    threads.append(decode(80))
    threads[-1].join(0.2)
    assert begun.empty(), "the second large one waits for the first"
    may_end[80].release()
    assert begun.get(timeout=60) == 80
    may_end[80].release()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_a_file_that_waits_for_its_turn_reads_nothing(monkeypatch, tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 60)
    monkeypatch.setattr("data.content._content", data.content.Budget(100))
    reader = threading.Thread(target=lambda: data.content.content_of(tmp_path / "a").__enter__())
    with data.content.content_of(tmp_path / "a") as content:
        reader.start()
        reader.join(0.1)
        assert reader.is_alive()
    reader.join(20)
    assert not reader.is_alive()
    assert content == b"x" * 60


def test_pictures_of_the_most_pixels_take_no_more_than_is_promised(tmp_path):
    """Among them are those that take most for each pixel."""
    most = {kind: data.images.decode.MAX_MEMORY // size for kind, size in data.images.decode.BYTES_PER_PIXEL.items()}
    for kind, settings in (("PNG", {"compress_level": 1}), ("WEBP", {"method": 0})):
        side = int(most.get(kind, MAX_PIXELS) ** 0.5)
        Image.new("RGBA", (side, side)).save(tmp_path / kind, kind, **settings)
    assert set(open_all("pictures", tmp_path).values()) == {READ}


def test_a_format_that_takes_more_has_a_lower_limit():
    content = encode(Image.new("L", (8_400, 8_410)), "WEBP", method=0)
    with pytest.raises(UnreadableError, match="too many pixels, more than the limit of 70,588,235 for WEBP"):
        decode_picture(content, SIZE)
