"""Pictures that look the same are found, whatever was done to their files; alike is not the same."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from data.images.animals import load as load_animals
from data.images.decode import make_signature, read_picture
from data.images.look_alikes import compared_values
from data.near_duplicates import BLOCK, NearDuplicate, find_near_duplicates, group_near_duplicates
from tests.conftest import COLOURS, make_picture

SIZE = 96


def scene(seed: int) -> Image.Image:
    """Something like a photo: shapes of many sizes on a gradient."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, rng.uniform(50, 200), SIZE)
    picture = Image.fromarray(np.repeat((slope + slope[:, None])[..., None] / 2, 3, axis=2).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(25):
        x, y = rng.uniform(0, SIZE, 2)
        width, height = rng.uniform(4, SIZE / 2, 2)
        draw.ellipse((x, y, x + width, y + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return picture


def stack(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])


def compressed(picture: Image.Image) -> Image.Image:
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=25)
    return Image.open(written)


def across(pixels: np.ndarray, evaluated: np.ndarray, train: np.ndarray) -> list[NearDuplicate]:
    """The pairs of two sides of a data set."""
    looks = looks_of(pixels)
    groups, least_score = group_near_duplicates(looks, compared_values)
    return find_near_duplicates(looks, compared_values, groups, evaluated, train, least_score)


def looks_of(pixels: np.ndarray) -> np.ndarray:
    return np.stack([make_signature(Image.fromarray(picture)) for picture in pixels])


def groups_of_several(pixels: np.ndarray) -> set[tuple[int, ...]]:
    numbers = group_near_duplicates(looks_of(pixels), compared_values).numbers
    groups = (tuple(np.flatnonzero(numbers == number).tolist()) for number in np.unique(numbers))
    return {group for group in groups if len(group) > 1}


ALTERED = {
    "compressed": compressed,
    "shrunk": lambda picture: picture.resize((SIZE // 2, SIZE // 2)).resize((SIZE, SIZE)),
    "brighter": lambda picture: ImageEnhance.Contrast(ImageEnhance.Brightness(picture).enhance(1.2)).enhance(0.8),
    "without colours": lambda picture: picture.convert("L"),
    "cropped": lambda picture: picture.crop((1, 1, SIZE - 1, SIZE - 1)).resize((SIZE, SIZE)),
}


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
def test_an_altered_copy_is_found(alter):
    scenes = [scene(seed) for seed in range(60)]
    pixels = stack([*scenes, *map(alter, scenes[:5])])
    found = across(pixels, np.arange(30, 65), np.arange(30))
    assert {(pair.evaluated, pair.train) for pair in found} == {(60 + i, i) for i in range(5)}
    assert all(0.8 <= pair.score <= 1 for pair in found)
    assert [pair.score for pair in found] == sorted((pair.score for pair in found), reverse=True)


def test_other_scenes_are_no_copies():
    pixels = stack([scene(seed) for seed in range(80)])
    assert across(pixels, np.arange(40), np.arange(40, 80)) == []


@pytest.mark.parametrize("size", [8, 32, 40])
def test_noise_of_one_colour_is_no_copy(size):
    pixels = stack([make_picture(seed, COLOURS[seed % 2], (size, size)) for seed in range(100)])
    assert across(pixels, np.arange(50), np.arange(50, 100)) == []


def test_flat_pictures_are_not_compared():
    flat = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (0, 0, 128, 255)])
    assert across(flat, np.array([0, 2]), np.array([1, 3])) == []


def test_silhouettes_of_one_animal_do_not_flood_the_list(tmp_path):
    pictures = [picture.path for picture in load_animals("animals", tmp_path).examples][::8]
    pixels = np.stack([read_picture(path, 32) for path in pictures])
    copies = [pixels[10], pixels[20]]
    pixels = np.concatenate([pixels, np.clip(np.stack(copies).astype(int) + 3, 0, 255).astype(np.uint8)])
    count = len(pixels)
    found = across(pixels, np.arange(count - 300, count), np.arange(count - 300))
    assert {(pair.evaluated, pair.train) for pair in found} >= {(count - 2, 10), (count - 1, 20)}
    assert len(found) <= 12


def test_copies_are_found_in_every_block():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3 * BLOCK, 16, 16, 3)).astype(np.uint8)
    evaluated, train = np.arange(2 * BLOCK - 10), np.arange(2 * BLOCK - 10, 3 * BLOCK)
    pixels[[5, BLOCK + 7]] = pixels[[3 * BLOCK - 1, 2 * BLOCK]]
    found = across(pixels, evaluated, train)
    assert {(pair.evaluated, pair.train) for pair in found} == {(5, 3 * BLOCK - 1), (BLOCK + 7, 2 * BLOCK)}
    assert [pair.score for pair in found] == pytest.approx([1, 1], abs=1e-4)


def test_without_pictures_there_are_no_copies():
    pixels = stack([scene(0)])
    nothing = np.zeros(0, int)
    assert across(pixels, nothing, np.array([0])) == []
    assert across(pixels, np.array([0]), nothing) == []


def test_what_looks_the_same_is_one_group():
    scenes = [scene(seed) for seed in range(60)]
    pixels = stack([*scenes, compressed(scenes[3]), ALTERED["brighter"](scenes[3]), compressed(scenes[7])])
    assert groups_of_several(pixels) == {(3, 60, 61), (7, 62)}


def test_pictures_that_others_connect_are_one_group():
    wide = Image.fromarray(np.concatenate([np.asarray(scene(seed)) for seed in (90, 91)], axis=1))
    pan = [wide.crop((x, 0, x + SIZE, SIZE)) for x in range(0, SIZE // 2, 2)]
    pixels = stack([*(scene(seed) for seed in range(40)), *pan])
    assert groups_of_several(pixels) == {tuple(range(40, 40 + len(pan)))}
    ends = stack([*(scene(seed) for seed in range(40)), pan[0], pan[-1]])
    assert groups_of_several(ends) == set(), "the ends alone look different"


def test_groups_reach_over_blocks():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2 * BLOCK + 40, 16, 16, 3)).astype(np.uint8)
    pixels[[5, BLOCK + 7, 2 * BLOCK + 30]] = pixels[[BLOCK + 7, 2 * BLOCK + 30, 2 * BLOCK + 30]]
    pixels[5] = pixels[2 * BLOCK + 30]
    pixels[BLOCK + 1] = pixels[BLOCK + 3]
    assert groups_of_several(pixels) == {(5, BLOCK + 7, 2 * BLOCK + 30), (BLOCK + 1, BLOCK + 3)}


def test_one_scene_through_and_through_is_one_group():
    pixels = stack([scene(0)] * 300)
    assert groups_of_several(pixels) == {tuple(range(300))}


def test_of_many_pictures_those_that_look_the_same_are_found(monkeypatch):
    """As many as are not compared each with each: in blocks, several times."""
    rng = np.random.default_rng(0)
    count = 4 * BLOCK
    looks = rng.integers(0, 256, (count, 16, 16)).astype(np.uint8)
    twins = np.arange(0, count, 41)
    looks = np.concatenate([looks, np.clip(looks[twins] + rng.normal(0, 30, (len(twins), 16, 16)), 0, 255)])
    scores = (compared_values(looks[twins]) * compared_values(looks[count:])).sum(axis=1)
    assert 0.85 < scores.min() < scores.max() < 0.96
    exact = group_near_duplicates(looks.astype(np.uint8), compared_values)
    monkeypatch.setattr("data.near_duplicates.MOST_COMPARED", 3)
    found = group_near_duplicates(looks.astype(np.uint8), compared_values)
    assert found.least_score == exact.least_score
    np.testing.assert_array_equal(found.numbers, exact.numbers)
    assert len(np.unique(found.numbers)) == count


def test_many_pictures_of_one_scene_are_one_group(monkeypatch):
    monkeypatch.setattr("data.near_duplicates.MOST_COMPARED", 3)
    looks = np.repeat(looks_of(stack([scene(0)])), 3 * BLOCK, axis=0)
    assert set(group_near_duplicates(looks, compared_values).numbers) == {0}
