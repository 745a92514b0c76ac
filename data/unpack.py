"""Writes pictures that do not come as files into a folder of class folders, once: complete or absent, never half."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from config import UsageError


def unpack_once(folder: Path, write_files: Callable[[Path], None]) -> Path:
    """Fills `folder` by `write_files(temporary folder)` unless it is there already.

    The files are written beside it and renamed when complete; if another process was faster, its folder is taken.

    Args:
        folder: where the files are to be; what is there already is complete.
        write_files: writes all files into the empty folder that it is given.

    Returns:
        `folder`.

    Raises:
        UsageError: the place cannot be written.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise UsageError(f"--cache-dir must be writable; '{folder.parent}' is not: {error.strerror}.") from None
    try:
        write_files(temporary)
        try:
            os.replace(temporary, folder)
        except OSError:
            if not folder.is_dir():
                raise
    except OSError as error:
        raise UsageError(f"'{folder}' cannot be written: {error.strerror}. Choose another --cache-dir.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def write_picture(folder: Path, class_name: str, number: int, encoded: bytes) -> None:
    """Writes one encoded picture as `folder/CLASS/NUMBER`; a '/' in the class name becomes '_'."""
    class_folder = folder / class_name.replace("/", "_")
    class_folder.mkdir(parents=True, exist_ok=True)
    ending = next((ending for magic, ending in _ENDINGS.items() if encoded.startswith(magic)), "")
    (class_folder / f"{number:06d}{ending}").write_bytes(encoded)


_ENDINGS = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"GIF8": ".gif", b"BM": ".bmp"}
