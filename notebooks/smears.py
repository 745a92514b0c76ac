"""Draws simulated blood smears, a few of which have a parasite. Results on them say nothing about any disease."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 120, 80
"""Width and height, pixels."""
HEALTHY, INFECTED = "healthy", "infected"
"""Names of the classes; the rarer one is the positive class."""


def write_smears(folder: Path, count: int, prevalence: float) -> None:
    """Writes `folder/CLASS/NUMBER.png`.

    Args:
        folder: to make.
        count: pictures.
        prevalence: share of infected smears, spread evenly over the numbers.
    """
    for name in (HEALTHY, INFECTED):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        infected = int((number + 1) * prevalence) > int(number * prevalence)
        place = folder / (INFECTED if infected else HEALTHY) / f"{number:04}.png"
        draw_smear(number, infected).save(place, compress_level=1)


def draw_smear(seed: int, infected: bool) -> Image.Image:
    """Draws red cells, and platelets as purple dots anywhere; in an infected smear, one cell has a small purple ring.

    Args:
        seed: the same one gives the same picture.
        infected: whether a cell has a parasite.
    """
    random = np.random.default_rng(seed)
    picture = Image.new("RGB", (2 * SIZE[0], 2 * SIZE[1]), _stain(random, (236, 220, 222), 6))
    draw, purple = ImageDraw.Draw(picture), _stain(random, (118, 62, 138), 10)
    places = [(x, y) for x in (40, 120, 200) for y in (40, 120) if random.random() < 0.8] or [(120, 80)]
    cells = [random.normal(place, 8) for place in places]
    for cell in cells:
        radius, red = random.normal(34, 3), np.array(_stain(random, (212, 140, 140), 7))
        draw.circle(tuple(cell), radius, fill=tuple(red))
        draw.circle(tuple(cell), 0.45 * radius, fill=tuple(red + 25))
    for _ in range(random.poisson(1)):
        draw.circle(tuple(random.uniform((0, 0), picture.size)), random.uniform(3, 7), fill=purple)
    if infected:
        (x, y), ring = random.normal(random.choice(cells), 6), random.uniform(6, 14)
        angle = random.uniform(0, 2 * np.pi)
        draw.circle((x, y), ring, outline=purple, width=3)
        draw.circle((x + ring * np.cos(angle), y + ring * np.sin(angle)), 4.5, fill=purple)
    picture = picture.resize(SIZE).filter(ImageFilter.GaussianBlur(random.uniform(0.5, 1.5)))
    light, noise = random.normal(1, 0.04), random.normal(0, 6, (*picture.size[::-1], 1))
    return Image.fromarray(np.clip(np.asarray(picture) * light + noise, 0, 255).astype(np.uint8))


def _stain(random: np.random.Generator, colour: tuple[int, int, int], spread: float) -> tuple[int, ...]:
    """Returns a colour that differs a little from smear to smear."""
    return tuple(random.normal(colour, spread).astype(int).tolist())
