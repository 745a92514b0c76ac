"""A cut is where few tensors separate the network, and nothing that learns may lie before it."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.cuts import cut_before_trainable, find_cuts, most_tensors_across
from models import backbones
from models.backbones import TABLE, find
from models.freezing import set_trainable

KINDS = ("vgg16", "resnet50", "mobilenetv2", "inceptionv3")
"""A plain network, one with skip connections, one with narrow ones, and one with parallel branches."""


def build(name: str, image_size: int = 96) -> keras.Model:
    return backbones.build(find(name), image_size).model


@pytest.mark.parametrize("name", KINDS)
def test_what_crosses_a_cut_is_all_that_the_rest_needs(name):
    model = build(name)
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
    whole = model(pictures, training=False)
    cuts = find_cuts(model)
    for cut in cuts[:-1][:: max(1, len(cuts) // 4)]:
        before, after = keras.Model(model.inputs[0], cut.tensors[0]), keras.Model(cut.tensors[0], model.output)
        got = after(before(pictures, training=False), training=False)
        np.testing.assert_allclose(got, whole, rtol=1e-4, atol=1e-6 * np.abs(whole).max())
        assert {id(variable) for variable in after.variables} <= {id(variable) for variable in model.variables}


@pytest.mark.parametrize(
    ("name", "gigamacs", "cut", "share"),
    [
        ("resnet50", 3.86, "conv5_block2_out", 0.057),
        ("resnet50", 3.86, "conv4_block6_out", 0.19),
        ("mobilenet", 0.568, "conv_dw_12_relu", 0.137),
        ("efficientnetb0", 0.385, "block6d_add", 0.129),
        ("vgg16", 15.3, "block4_pool", 0.09),
        ("inceptionv3", 5.71, "mixed8", 0.124),
    ],
)
def test_shares_of_the_work_are_those_of_the_published_networks(name, gigamacs, cut, share):
    cuts = {each.layer: each for each in find_cuts(build(name, find(name).image_size))}
    assert cuts[cut].share_after == pytest.approx(share, abs=0.005)
    assert (cuts[cut].macs_before + cuts[cut].macs_after) / 1e9 == pytest.approx(gigamacs, rel=0.01)


def test_no_cut_lies_inside_a_residual_block():
    names = [cut.layer for cut in find_cuts(build("resnet50"))]
    assert "conv5_block2_out" in names
    assert not [name for name in names if name.startswith("conv5_block2_") and "add" not in name and "out" not in name]


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=4)
@given(data=st.data())
def test_nothing_before_the_chosen_cut_learns(name, data):
    model = _cached_build(name)
    count = data.draw(st.integers(0, len(model.layers)))
    set_trainable(model.layers, count)
    cuts = find_cuts(model)
    cut = cut_before_trainable(cuts, model)
    before = keras.Model(model.inputs[0], cut.tensors[0])
    assert not before.trainable_variables
    later = [other for other in cuts if other.position > cut.position and other.macs_after < cut.macs_after / 1.01]
    assert not later or keras.Model(model.inputs[0], later[0].tensors[0]).trainable_variables


_cached_build = functools.cache(build)


def test_a_narrower_cut_is_taken_where_it_costs_next_to_nothing():
    model = _cached_build("mobilenetv2")
    cuts = find_cuts(model)
    for last in (cut for cut in cuts if 0 < cut.share_after < 0.5):
        set_trainable(model.layers, last.layers_after)
        chosen = cut_before_trainable(cuts, model)
        assert chosen.values <= last.values
        assert chosen.macs_after <= 1.01 * last.macs_after


def test_layers_behind_a_cut_are_counted_as_trainable_layers_are():
    model = _cached_build("vgg16")
    for cut in find_cuts(model)[:-1]:
        set_trainable(model.layers, cut.layers_after)
        assert not keras.Model(model.inputs[0], cut.tensors[0]).trainable_variables
        set_trainable(model.layers, cut.layers_after + 1)
        operation = model.operations[cut.position - 1]
        assert bool(getattr(operation, "trainable_variables", ())) == bool(getattr(operation, "weights", ()))


@settings(max_examples=40)
@given(data=st.data())
def test_the_cuts_of_any_network_are_what_every_way_leads_through(data):
    parents: list[list[int]] = [[]]
    for number in range(1, data.draw(st.integers(1, 9))):
        chosen = data.draw(st.sets(st.integers(max(0, number - 3), number - 1), min_size=1, max_size=3))
        parents.append(sorted(chosen))
    tensors = [keras.Input((3,), name="node_0")]
    for number, inputs in enumerate(parents[1:], start=1):
        layer = keras.layers.Add(name=f"node_{number}") if len(inputs) > 1 else None
        layer = layer or keras.layers.Activation("relu", name=f"node_{number}")
        tensors.append(layer([tensors[each] for each in inputs] if len(inputs) > 1 else tensors[inputs[0]]))
    model = keras.Model(tensors[0], tensors[-1])
    found = {int(cut.layer.removeprefix("node_")) for cut in find_cuts(model)}
    assert found == {node for node in range(len(parents)) if not _reaches_the_input(parents, len(parents) - 1, node)}


def _reaches_the_input(parents: list[list[int]], node: int, closed: int) -> bool:
    """Whether a way leads from a node back to the input past the node that is closed."""
    if node == closed:
        return False
    return node == 0 or any(_reaches_the_input(parents, parent, closed) for parent in parents[node])


def test_the_ends_are_cuts():
    model = build("mobilenet")
    cuts = find_cuts(model)
    assert cuts[0].layer == "pictures"
    assert cuts[-1].tensors[0] is model.outputs[0]
    set_trainable(model.layers, 0)
    assert cut_before_trainable(cuts, model).share_after == 0
    set_trainable(model.layers, "all")
    assert cut_before_trainable(cuts, model).macs_before == 0


def test_one_more_tensor_may_cross_where_nothing_else_cuts_a_network():
    inputs = keras.Input((4,))
    before, last = inputs, keras.layers.Dense(4, name="block_0")(inputs)
    for number in (1, 2, 3):  # each takes the outputs of the two before it, as the cells of NASNet do
        changed = keras.layers.Dense(4)(last)
        before, last = last, keras.layers.Add(name=f"block_{number}")([changed, before])
    model = keras.Model(inputs, last)
    assert most_tensors_across(model) == 2
    assert {"block_1", "block_2"} <= {cut.layer for cut in find_cuts(model, 2)}
    assert most_tensors_across(keras.Model(inputs, [before, last])) == 2
    assert most_tensors_across(_cached_build("mobilenetv2")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("backbone", TABLE, ids=lambda backbone: backbone.name)
def test_every_backbone_can_be_cut_in_its_last_third(backbone):
    model = backbones.build(backbone, backbone.image_size).model
    cuts = find_cuts(model, most_tensors_across(model))
    assert [cut for cut in cuts if 0.02 < cut.share_after < 0.34]
    assert all(len(cut.tensors) == 1 for cut in cuts) or backbone.module == "nasnet"
