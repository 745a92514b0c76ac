"""Each way to vary pictures with boxes changes what its name says, and nothing else."""

import numpy as np
import pytest

from data.boxes.vary import NUM_DRAWS, SCALES, SHIFT, policy

SIDE = 64
COUNT = 40
DRAWS = np.random.default_rng(0).random((COUNT, NUM_DRAWS)).astype(np.float32)


def square(left: int, top: int) -> np.ndarray:
    """Pictures that are black but for a white square of 16 pixels."""
    pictures = np.zeros((COUNT, SIDE, SIDE, 3), np.float32)
    pictures[:, top : top + 16, left : left + 16] = 255
    return pictures


def sides_and_middles(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of what is brighter than half, pixels and fractions of the picture from its middle."""
    bright = (pictures.mean(axis=3) > 127).astype(float)
    counts = bright.sum(axis=(1, 2))
    places = np.arange(SIDE) + 0.5 - SIDE / 2
    middles = np.stack([(bright.sum(axis=axis) @ places) / counts / SIDE for axis in (1, 2)], axis=1)
    return np.sqrt(counts), middles


def test_flip_mirrors_some_and_changes_nothing_else():
    pictures = np.random.default_rng(1).uniform(0, 255, (COUNT, 8, 8, 3)).astype(np.float32)
    varied = policy("flip").apply(pictures, DRAWS).numpy()
    same, mirrored = (
        np.isclose(varied, each, atol=1e-2).all(axis=(1, 2, 3)) for each in (pictures, pictures[:, :, ::-1])
    )
    assert (same ^ mirrored).all()
    assert 0.2 < mirrored.mean() < 0.8


def test_mild_scales_and_shifts_within_its_range():
    sides, middles = sides_and_middles(policy("mild").apply(square(24, 24), DRAWS).numpy())
    assert 16 * SCALES[0] - 1 < sides.min() < 14
    assert 18 < sides.max() < 16 * SCALES[1] + 1
    assert 0.5 * SHIFT < np.abs(middles).max() < SHIFT + 0.02


@pytest.mark.parametrize(("name", "turns"), [("mild", False), ("flip", False), ("vertical", True)])
def test_upright_stays_what_only_vertical_turns(name, turns):
    _, middles = sides_and_middles(policy(name).apply(square(24, 4), DRAWS).numpy())
    assert (0.2 < (middles[:, 1] > 0).mean() < 0.8) == turns
