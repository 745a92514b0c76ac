"""Finds pictures that hardly use their 16 bits, such as 12-bit X-rays: of 16 bits, the upper 8 are read."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from data.images.decode import of_header
from data.kinds import Content

DARK = 16
"""Level of 256 below which a picture is nearly black; 12 bits in 16 stay below it."""
MOST_LOOKED_AT = 20
"""Most pictures that are decoded once more."""


def depth_cautions(signatures: np.ndarray, contents: Sequence[Content]) -> list[str]:
    """Warns of pictures of 16 bits that use less than 1/16 of the range.

    Args:
        signatures: uint8 (n, height, width), the pictures in grey.
        contents: the n pictures.
    """
    dark = np.flatnonzero(signatures.max(axis=(1, 2), initial=0) < DARK)
    looked_at = dark[:: -(-len(dark) // MOST_LOOKED_AT) or 1]
    found = sum(bool(of_header(contents[index], _is_too_dark)) for index in looked_at)
    if not found:
        return []
    return [
        f"{found:,} of {len(looked_at):,} nearly black pictures looked at have 16 bits and use less than 1/16 of the "
        f"range; only the upper 8 bits are read. Save 12-bit pictures with their values times 16."
    ]


def _is_too_dark(picture: Image.Image) -> bool:
    return picture.mode.startswith("I;16") and bool((np.asarray(picture) >> 8).max() < DARK)
