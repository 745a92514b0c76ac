"""Every kind of bad and odd picture that a folder may hold, and what is to become of each."""

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, features

from data.content import MAX_BYTES
from data.sources import printable
from tests.conftest import COLOURS, make_picture

AS_PILLOW = "as Pillow"
"""Expected of a picture that is used: the pixels that Pillow alone reads."""
IGNORED = "ignored"
"""Expected of what is neither used nor told."""
CLASSES = ("cat", "dog")
GOOD = 6
"""Ordinary pictures of each class."""

TRUNCATED = "truncated: the end of the file is missing"
BROKEN = "damaged: its pixels cannot be decoded"
BROKEN_START = "damaged: its start is broken"
TOO_MANY = "too many pixels, more than the limit of 100,000,000"
TOO_MUCH_TEXT = "cannot be decoded: Decompressed data too large for PngImagePlugin.MAX_TEXT_CHUNK"
NOT_A_PICTURE = "not a picture"
LINK_OUT = "a link out of the folder, which --outside would follow"
TOO_SLOW = "takes more than 0.5 seconds to decode"
"""While MAX_SECONDS is 0.5, as in the test."""


class Odd(NamedTuple):
    """A kind of file."""

    name: str
    """In the folder of a class."""
    write: Callable[[Path, Image.Image], None]
    """Writes a picture to a path, in this odd way."""
    expected: str = AS_PILLOW
    """AS_PILLOW, IGNORED, or the reason in quarantine.csv."""


def encode(picture: Image.Image, kind: str, **settings) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **settings)
    return stream.getvalue()


def saved(kind: str, mode: str = "RGB", **settings) -> Callable[[Path, Image.Image], None]:
    """Writes in a format and a colour mode of Pillow."""
    return lambda path, picture: path.write_bytes(encode(picture.convert(mode), kind, **settings))


def spoilt(kind: str, spoil: Callable[[bytes], bytes], **settings) -> Callable[[Path, Image.Image], None]:
    """Writes the bytes of a format after changing them."""
    return lambda path, picture: path.write_bytes(spoil(encode(picture, kind, **settings)))


def constant(content: bytes) -> Callable[[Path, Image.Image], None]:
    return lambda path, _: path.write_bytes(content)


def resized(kind: str, size: tuple[int, int], **settings) -> Callable[[Path, Image.Image], None]:
    return lambda path, picture: path.write_bytes(encode(picture.resize(size), kind, **settings))


def animated(kind: str, **settings) -> Callable[[Path, Image.Image], None]:
    """Writes two pictures into one file; the first counts."""

    def write(path: Path, picture: Image.Image) -> None:
        other = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        path.write_bytes(encode(picture, kind, save_all=True, append_images=[other], **settings))

    return write


def from_values(kind: str, compute: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Image.Image], None]:
    """Writes other numbers than those of 8 bits."""
    return lambda path, picture: path.write_bytes(encode(Image.fromarray(compute(np.asarray(picture))), kind))


def turned(orientation: int, kind: str = "JPEG") -> Callable[[Path, Image.Image], None]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(kind, exif=exif)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG of any header."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def png_of_16_bits(path: Path, picture: Image.Image) -> None:
    values = np.asarray(picture).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    path.write_bytes(png(*picture.size, 16, 2, rows))


def jpeg_of_size(width: int, height: int) -> Callable[[bytes], bytes]:
    """Writes another size into the header of a JPEG."""

    def change(content: bytes) -> bytes:
        place = content.index(b"\xff\xc0") + 5
        return content[:place] + struct.pack(">HH", height, width) + content[place + 4 :]

    return change


def bmp_of_size(width: int, height: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:18] + struct.pack("<ii", width, height) + content[26:]


def gif_of_size(width: int, height: int) -> Callable[[bytes], bytes]:
    """A screen that is larger than the picture on it."""
    return lambda content: content[:6] + struct.pack("<HH", width, height) + content[10:]


def tiff_that_loops(content: bytes) -> bytes:
    """The directory that comes next is the first again."""
    (place,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[place : place + 2])
    end = place + 2 + 12 * count
    return content[:end] + content[4:8] + content[end + 4 :]


LONG_TEXT = b"a\0\0" + zlib.compress(bytes(10**8))


def png_with(chunk: bytes, data: bytes) -> Callable[[bytes], bytes]:
    """Adds a chunk behind the header of a PNG."""
    return lambda content: content[:33] + png_chunk(chunk, data) + content[33:]


def icon_with(content: bytes) -> bytes:
    header = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(content), 22)
    return header + content


def wrong_checksum(content: bytes) -> bytes:
    place = content.index(b"IDAT") - 4
    (length,) = struct.unpack(">I", content[place : place + 4])
    end = place + 8 + length
    return content[:end] + bytes(4) + content[end + 4 :]


def many_scans(path: Path, picture: Image.Image) -> None:
    """A progressive JPEG of 300 KB that goes over its pixels 20,000 times, which takes ten seconds or more."""
    content = encode(Image.new("RGB", (1000, 1000)), "JPEG", progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    path.write_bytes(content[:-2] + last * 20_000 + b"\xff\xd9")


def ycck(content: bytes) -> bytes:
    """Says in the mark of Adobe that the inks are stored as luminance and colour."""
    place = content.index(b"Adobe") + 11
    return content[:place] + b"\x02" + content[place + 1 :]


def without_adobe(content: bytes) -> bytes:
    """Inks as they are: without its mark they are not inverted."""
    place = content.index(b"\xff\xee")
    return content[:place] + content[place + 16 :]


def zip_archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("picture.txt", "text")
    return stream.getvalue()


def too_many_bytes(path: Path, _: Image.Image) -> None:
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES + 1)  # a hole, which takes no room


def locked(path: Path, picture: Image.Image) -> None:
    picture.save(path, "PNG")
    path.chmod(0)


def link_to(target: str) -> Callable[[Path, Image.Image], None]:
    return lambda path, _: path.symlink_to(target)


def link_outside(path: Path, picture: Image.Image) -> None:
    target = path.parent.parent.parent / f"elsewhere-{path.name}"
    picture.save(target, "PNG")
    path.symlink_to(target)


def link_to_folder_outside(path: Path, picture: Image.Image) -> None:
    target = path.parent.parent.parent / "elsewhere"
    target.mkdir()
    picture.save(target / "x.png")
    path.symlink_to(target)


def inside(folder: str, name: str) -> Callable[[Path, Image.Image], None]:
    return lambda path, picture: ((path / folder).mkdir(parents=True), picture.save(path / folder / name, "PNG"))


_EXIF_IN_PNG = Image.Exif()
_EXIF_IN_PNG[0x0112] = 6

ODD: dict[str, Odd] = {
    # --- not pictures at all
    "empty": Odd("empty.jpg", constant(b""), "empty file"),
    "web page": Odd("page.jpg", constant(b"<!DOCTYPE html><html>404</html>"), "a web page, not a picture"),
    "text": Odd("notes.txt", constant(b"cats are nice\n"), NOT_A_PICTURE),
    "zip": Odd("archive.zip", constant(zip_archive()), "a ZIP archive, not a picture"),
    "svg": Odd(
        "drawing.svg",
        constant(b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'),
        "an SVG drawing, which is not read; save it as PNG",
    ),
    "pdf": Odd("paper.pdf", constant(b"%PDF-1.7\n"), "a PDF, not a picture"),
    "heic": Odd(
        "phone.heic", constant(b"\0\0\0\x18ftypheic" + bytes(64)), "a HEIC picture, which is not read; save it as JPEG"
    ),
    "video": Odd("film.mp4", constant(b"\0\0\0\x18ftypisom" + bytes(64)), "a video, not a picture"),
    "postscript": Odd("print.eps", constant(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"), NOT_A_PICTURE),
    "zeros": Odd("zeros.png", constant(bytes(5000)), NOT_A_PICTURE),
    # --- damaged
    "truncated jpeg": Odd("cut.jpg", spoilt("JPEG", half), TRUNCATED),
    "truncated png": Odd("cut.png", spoilt("PNG", half), TRUNCATED),
    "truncated gif": Odd("cut.gif", spoilt("GIF", half), TRUNCATED),
    "truncated webp": Odd("cut.webp", spoilt("WEBP", half), BROKEN),
    "truncated bmp": Odd("cut.bmp", spoilt("BMP", half), TRUNCATED),
    "truncated tiff": Odd("cut.tiff", spoilt("TIFF", half), TRUNCATED),
    "broken header": Odd(
        "header.png", spoilt("PNG", lambda content: content[:20] + b"\xff" + content[21:]), BROKEN_START
    ),
    "broken gif": Odd("broken.gif", spoilt("GIF", lambda content: content[:-900] + b"\xff" * 900), BROKEN),
    "start of a jpeg": Odd("start.jpg", constant(b"\xff\xd8\xff"), NOT_A_PICTURE),
    "wrong checksum": Odd("checksum.png", spoilt("PNG", wrong_checksum)),
    # --- too large, too slow
    "bomb": Odd("bomb.png", constant(png(20_000, 20_000, 1, 0, b"")), TOO_MANY),
    "bomb in an icon": Odd("bomb.ico", constant(icon_with(png(20_000, 20_000, 1, 0, b""))), NOT_A_PICTURE),
    "very long": Odd(
        "long.png",
        constant(png(1, 100_000_000, 8, 6, b"")),
        "100,000,000 pixels on a side, more than the limit of 65,535",
    ),
    "very long in an icon": Odd("long.ico", constant(icon_with(png(1, 100_000_000, 8, 6, b""))), NOT_A_PICTURE),
    "icon of an icon": Odd("icons.ico", constant(icon_with(icon_with(b""))), NOT_A_PICTURE),
    "large header of a jpeg": Odd("header.jpg", spoilt("JPEG", jpeg_of_size(65_500, 65_500)), TOO_MANY),
    "large header of a bmp": Odd("header.bmp", spoilt("BMP", bmp_of_size(2**31 - 1, 2**31 - 1)), TOO_MANY),
    "negative width": Odd("negative.bmp", spoilt("BMP", bmp_of_size(-48, 40)), TOO_MANY),
    "empty bmp": Odd("none.bmp", spoilt("BMP", bmp_of_size(0, 0)), NOT_A_PICTURE),
    "large screen of a gif": Odd("screen.gif", spoilt("GIF", gif_of_size(65_535, 65_535)), TOO_MANY),
    "large header of a ppm": Odd(
        "header.ppm",
        constant(b"P6 99999999999 99999999999 255\n" + bytes(99)),
        "cannot be decoded: b'Token too long in file header: 99999999999'",
    ),
    "directory that loops": Odd("loop.tiff", spoilt("TIFF", tiff_that_loops)),
    "bomb of text": Odd("text.png", spoilt("PNG", png_with(b"zTXt", LONG_TEXT)), TOO_MUCH_TEXT),
    "bomb of a colour profile": Odd("icc.png", spoilt("PNG", png_with(b"iCCP", LONG_TEXT)), TOO_MUCH_TEXT),
    "two headers": Odd("twice.png", spoilt("PNG", lambda content: content[:33] + content[8:33] + content[33:])),
    "chunk of 2 GB": Odd("chunk.png", spoilt("PNG", lambda content: content[:33] + b"\x7f\xff\xff\xffabcd"), TRUNCATED),
    "many scans": Odd("scans.jpg", many_scans, TOO_SLOW),
    "too many bytes": Odd("huge.jpg", too_many_bytes, "200,000,001 bytes, more than the limit of 200,000,000"),
    # --- odd colours
    "16 bits grey": Odd("grey16.png", from_values("PNG", lambda rgb: rgb[..., 0].astype(np.uint16) * 257 + 5)),
    "16 bits colour": Odd("rgb16.png", png_of_16_bits),
    "32 bits": Odd("int.tiff", from_values("TIFF", lambda rgb: rgb[..., 0].astype(np.int32) * 70_000)),
    "floats": Odd("float.tiff", from_values("TIFF", lambda rgb: rgb[..., 0].astype(np.float32) / 99 - 1)),
    "black and white": Odd("bits.png", saved("PNG", "1")),
    "grey": Odd("grey.png", saved("PNG", "L")),
    "grey jpeg": Odd("grey.jpg", saved("JPEG", "L")),
    "grey and alpha": Odd("la.png", saved("PNG", "LA")),
    "alpha": Odd("rgba.png", lambda path, picture: (picture.putalpha(picture.convert("L")), picture.save(path))),
    "palette": Odd("palette.png", saved("PNG", "P")),
    "transparent palette": Odd("transparent.png", saved("PNG", "P", transparency=3)),
    "transparent gif": Odd("transparent.gif", saved("GIF", "P", transparency=3)),
    "inks": Odd("cmyk.jpg", saved("JPEG", "CMYK")),
    "inks not inverted": Odd("plain-cmyk.jpg", lambda path, p: spoilt("JPEG", without_adobe)(path, p.convert("CMYK"))),
    "inks as luminance": Odd("ycck.jpg", lambda path, p: spoilt("JPEG", ycck)(path, p.convert("CMYK"))),
    "inks tiff": Odd("cmyk.tiff", saved("TIFF", "CMYK")),
    "lab": Odd("lab.tiff", saved("TIFF", "LAB")),
    "colour profile": Odd("profile.jpg", saved("JPEG", icc_profile=b"not really a profile" * 9)),
    # --- odd formats
    "progressive": Odd("progressive.jpg", saved("JPEG", progressive=True)),
    "trailing bytes": Odd("trailing.jpg", spoilt("JPEG", lambda content: content + b"\xff\xda" * 9_000)),
    "bmp": Odd("x.bmp", saved("BMP")),
    "icon": Odd("x.ico", saved("ICO", sizes=[(32, 32)]), NOT_A_PICTURE),
    "tga": Odd("x.tga", saved("TGA")),
    "ppm": Odd("x.ppm", saved("PPM")),
    "pcx": Odd("x.pcx", saved("PCX")),
    "webp": Odd("x.webp", saved("WEBP", lossless=True)),
    "jpeg 2000": Odd("x.jp2", saved("JPEG2000")),
    "avif": Odd("x.avif", saved("AVIF")),
    "gif": Odd("x.gif", saved("GIF")),
    "animated gif": Odd("film.gif", animated("GIF")),
    "animated webp": Odd("film.webp", animated("WEBP", lossless=True)),
    "animated png": Odd("film.png", animated("PNG")),
    "several in a jpeg": Odd("x.mpo", animated("MPO")),
    "pages": Odd("pages.tiff", animated("TIFF")),
    # --- turned
    **{f"orientation {number}": Odd(f"turned{number}.jpg", turned(number)) for number in range(1, 9)},
    "orientation in a png": Odd("turned.png", turned(6, "PNG")),
    "no such orientation": Odd("turned99.jpg", turned(99)),
    "broken exif": Odd("exif.jpg", saved("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 9)),
    "nonsense for exif": Odd("nonsense.jpg", saved("JPEG", exif=b"Exif\0\0" + b"nonsense" * 4)),
    # --- odd sizes
    "one pixel": Odd("dot.png", resized("PNG", (1, 1))),
    "very wide": Odd("wide.png", resized("PNG", (20_000, 1))),
    "very high": Odd("high.png", resized("PNG", (1, 20_000))),
    "very wide jpeg": Odd("wide.jpg", resized("JPEG", (20_000, 1))),
    # --- odd names
    "emoji": Odd("katze 猫 🐈.png", saved("PNG")),
    "newline": Odd("two\nlines.png", saved("PNG")),
    "newline, bad": Odd("bad\nlines.png", constant(b"bad"), NOT_A_PICTURE),
    "escape sequence": Odd("\x1b[31mred.png", saved("PNG")),
    "no utf-8": Odd(os.fsdecode(b"caf\xe9.png"), saved("PNG")),
    "no utf-8, bad": Odd(os.fsdecode(b"bad\xe9.png"), constant(b"bad"), NOT_A_PICTURE),
    "leading dash": Odd("-rf.png", saved("PNG")),
    "leading equals sign": Odd("=1+1,'\".png", saved("PNG")),
    "markup": Odd("[bold]<b>{{ 1 }}.png", saved("PNG")),
    "very long name": Odd("n" * 251 + ".png", saved("PNG")),
    "wrong ending": Odd("png.jpg", saved("PNG")),
    "other ending": Odd("jpeg.txt", saved("JPEG")),
    "no ending": Odd("picture", saved("JPEG")),
    "upper case": Odd("PHOTO.JPG", saved("JPEG")),
    # --- links, folders, and what is no file
    "broken link": Odd("broken-link.jpg", link_to("nowhere.jpg"), "a broken link"),
    "looping link": Odd("loop.jpg", link_to("loop.jpg"), "a link that leads to itself"),
    "link out": Odd("out.jpg", link_outside, LINK_OUT),
    "link within": Odd("within.jpg", link_to("0.png")),
    "linked folder out": Odd("out", link_to_folder_outside, LINK_OUT),
    "looping folder": Odd("again", link_to(".."), "a link to a folder of the same data"),
    "linked folder within": Odd("friends", link_to("../dog"), "a link to a folder of the same data"),
    "link to a device": Odd("zero.jpg", link_to("/dev/zero"), LINK_OUT),
    "folder with a picture's name": Odd("album.jpg/inner.png", saved("PNG")),
    "pipe": Odd("pipe.jpg", lambda path, _: os.mkfifo(path), "not a file"),
    # --- copies
    "copy": Odd("copy.png", lambda path, _: path.write_bytes((path.parent / "1.png").read_bytes())),
    # --- left behind by file managers and archives
    ".DS_Store": Odd(".DS_Store", constant(b"x"), IGNORED),
    "._x.jpg": Odd("._x.jpg", constant(b"x"), IGNORED),
    "Thumbs.db": Odd("Thumbs.db", constant(b"x"), IGNORED),
    "__MACOSX": Odd("__MACOSX", inside("cat", "0.png"), IGNORED),
    "hidden folder": Odd(".hidden", inside("cat", "0.png"), IGNORED),
}
"""By kind; they are written in this order, turn by turn into the folders of the classes."""
if os.geteuid() != 0:  # who may read everything
    ODD["locked"] = Odd("locked.png", locked, "Permission denied")
for _kind, _format in (("avif", "avif"), ("jpeg 2000", "jpg_2000")):
    if not features.check(_format):
        del ODD[_kind]


def write_odd_pictures(root: Path) -> dict[str, str]:
    """Fills `root` with ordinary pictures of two classes, and with every odd kind.

    Returns:
        What is expected of each file, by its path below `root` as tables show it.
    """
    expected = {}
    for number, class_name in enumerate(CLASSES):
        (root / class_name).mkdir(parents=True)
        for index in range(GOOD):
            make_picture(1_000 * number + index, COLOURS[number]).save(root / class_name / f"{index}.png")
            expected[f"{class_name}/{index}.png"] = AS_PILLOW
    for index, odd in enumerate(ODD.values()):
        number = index % len(CLASSES)
        path = root / CLASSES[number] / odd.name
        path.parent.mkdir(exist_ok=True)
        odd.write(path, make_picture(100_000 + index, COLOURS[number]))
        expected[printable(path.relative_to(root).as_posix())] = odd.expected
    for class_name in CLASSES:
        make_picture(7).save(root / class_name / "both.png")
        expected[f"{class_name}/both.png"] = "copies of one picture have different labels: cat, dog"
    return expected
