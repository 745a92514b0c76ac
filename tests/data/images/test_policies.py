"""Variations of pictures do what their names say, on pictures whose result is known."""

import math

import numpy as np
import pytest

import data.boxes.vary
import data.sounds.vary
from data.images.policies import POLICIES, move, randaugment, recolour
from data.kinds import CUSTOM_DRAWS

PICTURES = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"mirror": -1.0}, PICTURES[:, :, ::-1]),
        ({"upside_down": -1.0}, PICTURES[:, ::-1]),
        ({"angle": math.pi}, PICTURES[:, ::-1, ::-1]),
        ({"angle": math.pi / 2}, np.rot90(PICTURES, -1, (1, 2))),
        ({"right": 1 / 4, "fill": "CONSTANT"}, np.pad(PICTURES, ((0, 0), (0, 0), (2, 0), (0, 0)))[:, :, :8]),
        ({"down": -1 / 8, "fill": "CONSTANT"}, np.pad(PICTURES, ((0, 0), (0, 1), (0, 0), (0, 0)))[:, 1:]),
    ],
)
def test_pixels_move_to_where_they_are_expected(how, expected):
    np.testing.assert_allclose(move(PICTURES, **how), expected, atol=1e-2)


def test_shears_and_scales_are_measured_from_the_middle():
    columns = np.broadcast_to(np.arange(9, dtype=np.float32)[:, None] - 4, (1, 9, 9, 3))  # 0 in the middle
    inner = slice(3, 6)
    np.testing.assert_allclose(move(columns, scale=2.0)[:, inner, inner], columns[:, inner, inner] / 2, atol=1e-4)
    rows = columns.transpose(0, 2, 1, 3)
    leaning = move(columns, lean=0.5)[:, inner, inner]
    np.testing.assert_allclose(leaning, (columns + 0.5 * rows)[:, inner, inner], atol=1e-4)
    slanting = move(rows, slant=0.5)[:, inner, inner]
    np.testing.assert_allclose(slanting, (rows + 0.5 * columns)[:, inner, inner], atol=1e-4)


def test_colours_keep_their_grey_their_mean_and_their_range():
    pixels = np.array([[[100, 150, 200], [40, 40, 40]]], np.float32)[None]  # (1, 1, 2, 3)
    np.testing.assert_allclose(recolour(pixels, saturation=0.0), [[[[150] * 3, [40] * 3]]], atol=1e-3)
    np.testing.assert_allclose(recolour(pixels, saturation=2.0), [[[[50, 150, 250], [40] * 3]]], atol=1e-3)
    np.testing.assert_allclose(recolour(pixels, contrast=0.0), [[[[70, 95, 120]] * 2]], atol=1e-3)
    np.testing.assert_allclose(recolour(pixels, brightness=0.4), [[[[202, 252, 255], [142] * 3]]], atol=1e-3)


def test_randaugment_does_the_two_operations_that_are_drawn():
    draws = np.zeros((2, CUSTOM_DRAWS), np.float32)
    draws[:, 8:10] = 0.9  # solarize from 128 on, and keep 16 of 256 levels
    coarse = PICTURES // 16 * 16
    np.testing.assert_allclose(randaugment(PICTURES, draws), np.where(coarse >= 128, 255 - coarse, coarse), atol=1e-3)


@pytest.mark.parametrize("policies", [POLICIES, data.boxes.vary.POLICIES, data.sounds.vary.POLICIES])
def test_the_key_of_stored_views_covers_the_modules_that_a_policy_calls(policies):
    for policy in policies.values():
        called = [policy.apply.__globals__.get(name) for name in policy.apply.__code__.co_names]
        modules = {each.__module__ for each in called if callable(each) and each.__module__.startswith("data.")}
        assert modules <= {each.__module__ for each in (policy.apply, *policy.uses)}
