"""Pictures that hardly use their 16 bits are told; dark pictures of another kind are not."""

import numpy as np
import pytest
from PIL import Image

from app.config import TrainConfig
from data.images.depth import MOST_LOOKED_AT, depth_cautions
from data.prepare import prepare_data
from data.sources import load_source


def save_levels(folder, top: int, count: int = 8, ending: str = "png", bits: int = 16, bright: int = 0) -> None:
    """Saves grey pictures of two classes with values from 0 to `top`; one pixel of each is `bright`, unless 0."""
    for number in range(2 * count):
        levels = np.random.default_rng(number).integers(0, top, (40, 40), endpoint=True)
        levels[0, 0] = bright or levels[0, 0]
        path = folder / "ab"[number % 2] / f"{number}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels.astype(np.uint16 if bits == 16 else np.uint8)).save(path)


def cautions_of(folder, tmp_path) -> list[str]:
    config = TrainConfig.of(data=str(folder), cache_dir=tmp_path / "cache", image_size=32)
    return list(prepare_data(load_source(str(folder), tmp_path), config).cautions)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_pictures_of_12_bits_in_16_are_told(tmp_path, ending):
    save_levels(tmp_path / "xrays", 4095, ending=ending)
    for _ in ("decoded", "from the cache"):
        (caution,) = cautions_of(tmp_path / "xrays", tmp_path)
        assert caution == (
            "16 of 16 nearly black pictures looked at have 16 bits and use less than 1/16 of the range; only the upper "
            "8 bits are read. Save 12-bit pictures with their values times 16."
        )


@pytest.mark.parametrize(
    "levels", [{"top": 65_535}, {"top": 2_000, "bright": 60_000}, {"top": 10, "bits": 8}], ids=["all", "spots", "dark"]
)
def test_pictures_that_use_their_bits_are_not_told(tmp_path, levels):
    save_levels(tmp_path / "photos", **levels)
    assert cautions_of(tmp_path / "photos", tmp_path) == []


def test_few_of_many_dark_pictures_are_looked_at(tmp_path):
    save_levels(tmp_path / "xrays", 4095, count=30)
    paths = sorted((tmp_path / "xrays").rglob("*.png"))
    (caution,) = depth_cautions(np.zeros((60, 16, 16), np.uint8), paths)
    assert caution.startswith(f"{MOST_LOOKED_AT} of {MOST_LOOKED_AT} nearly black")
    assert depth_cautions(np.zeros((0, 16, 16), np.uint8), []) == []
