"""The canvases that are made here: animals on light grounds, each exactly in its box."""

import itertools

import numpy as np
from PIL import Image

from data.boxes.canvases import CANVASES, CHOSEN, SIDE, SIZES, load

DARKEST_OF_GROUND = 110
"""Animals are darker."""


def test_every_box_is_filled_by_its_animal_and_none_overlaps_another(tmp_path):
    source = load("canvases", tmp_path)
    assert len(source.examples) == CANVASES
    assert {label for example in source.examples for label in example.labels} == set(CHOSEN)
    for example in source.examples[:50]:
        dark = (np.array(Image.open(example.path)) < DARKEST_OF_GROUND).all(axis=2)
        inside = np.zeros_like(dark)
        for x1, y1, x2, y2 in np.array(example.boxes.corners, int):
            animal = dark[y1:y2, x1:x2]
            assert max(animal.shape) <= SIZES[1]
            assert animal.any(axis=0)[[0, -1]].all(), "the box touches its animal at the left and the right"
            assert animal.any(axis=1)[[0, -1]].all(), "and at the top and the bottom"
            inside[y1:y2, x1:x2] = True
        assert dark.shape == (SIDE, SIDE)
        assert not (dark & ~inside).any(), "nothing dark is outside the boxes"
        for one, other in itertools.combinations(example.boxes.corners, 2):
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
