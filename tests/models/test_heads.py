"""Heads end as their task needs, in float32 whatever the precision."""

import keras
import numpy as np
import pytest

from models.heads import build_head
from tasks.classification import BINARY, MULTICLASS, MULTILABEL


@pytest.mark.parametrize(
    ("task", "num_classes", "outputs", "activation"),
    [(BINARY, 2, 1, "sigmoid"), (MULTICLASS, 5, 5, "softmax"), (MULTILABEL, 5, 5, "sigmoid")],
)
def test_the_output_fits_the_task(task, num_classes, outputs, activation):
    head = build_head(8, task, num_classes)
    assert head.output_shape == (None, outputs)
    assert head.layers[-1].activation.__name__ == activation


def test_dense_layers_are_stacked_with_dropout_before_each():
    head = build_head(8, MULTICLASS, 3, head_units=(16, 4), dropout=0.3)
    assert [type(layer).__name__ for layer in head.layers] == ["Dropout", "Dense"] * 3
    assert [layer.units for layer in head.layers[1::2]] == [16, 4, 3]
    assert {layer.rate for layer in head.layers[::2]} == {0.3}


def test_the_output_stays_float32_under_mixed_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        head = build_head(8, MULTICLASS, 3, head_units=(16,))
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert head(np.ones((2, 8))).dtype == "float32"
    assert head.layers[1].compute_dtype == "bfloat16"
