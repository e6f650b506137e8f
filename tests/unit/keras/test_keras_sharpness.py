"""Finding the spiking layers of a model, in order, and reading and setting their sharpness."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as kl

from strop.errors import DataError
from strop.keras import SpikingBReLU, SpikingSigmoid, get_sharpness, set_sharpness, spiking_layers


def plain_model(count=3):
    stack = [keras.Input((4,))]
    for index in range(count):
        stack += [kl.Dense(4), SpikingBReLU(name=f"s{index}")]
    return keras.Sequential(stack)


def names(model):
    return [layer.name for layer in spiking_layers(model)]


def test_layers_of_a_sequential_model_come_from_input_to_output():
    assert names(plain_model()) == ["s0", "s1", "s2"]


def test_layers_of_nested_models_are_found_in_order():
    innermost = keras.Sequential([keras.Input((4,)), kl.Dense(4), SpikingBReLU(name="b1"), SpikingSigmoid(name="b2")])
    inner_in = keras.Input((4,))
    inner = keras.Model(inner_in, SpikingBReLU(name="c")(innermost(SpikingBReLU(name="a")(inner_in))))
    outer_in = keras.Input((4,))
    outer = keras.Model(outer_in, SpikingBReLU(name="d")(inner(SpikingBReLU(name="first")(outer_in))))
    assert names(outer) == ["first", "a", "b1", "b2", "c", "d"]


def test_activation_arguments_and_wrapped_layers_are_found_in_order():
    i = keras.Input((5, 4))
    x = kl.TimeDistributed(kl.Dense(3, activation=SpikingBReLU(name="in_wrapped")))(i)
    x = kl.TimeDistributed(SpikingBReLU(name="wrapped"))(x)
    x = kl.Conv1D(3, 2, activation=SpikingSigmoid(name="in_conv"))(x)
    x = kl.Activation(SpikingBReLU(name="in_activation"))(kl.Flatten()(x))
    assert names(keras.Model(i, x)) == ["in_wrapped", "wrapped", "in_conv", "in_activation"]


def test_shared_layer_counts_once_at_its_first_use():
    shared, i = SpikingBReLU(name="shared"), keras.Input((4,))
    x = shared(kl.Dense(4)(i))
    x = SpikingBReLU(name="between")(kl.Dense(4)(x))
    x = shared(kl.Dense(4, activation=shared)(x))
    assert names(keras.Model(i, x)) == ["shared", "between"]


def test_branches_are_in_topological_order():
    i = keras.Input((4,))
    stem = SpikingBReLU(name="stem")(kl.Dense(4)(i))
    long = SpikingBReLU(name="long2")(kl.Dense(4)(SpikingBReLU(name="long1")(kl.Dense(4)(stem))))
    short = SpikingBReLU(name="short")(kl.Dense(4)(stem))
    end = SpikingBReLU(name="end")(kl.Add()([short, long]))
    order = names(keras.Model(i, end))
    assert sorted(order) == ["end", "long1", "long2", "short", "stem"]
    assert order[0] == "stem"
    assert order[-1] == "end"
    assert order.index("long1") < order.index("long2")


def test_layers_built_out_of_order_still_come_in_the_order_of_the_graph():
    late, early = SpikingBReLU(name="late"), SpikingBReLU(name="early")
    i = keras.Input((4,))
    assert names(keras.Model(i, late(kl.Dense(4)(early(i))))) == ["early", "late"]


def test_subclassed_models_and_composite_layers_are_searched():
    class Block(kl.Layer):
        def __init__(self, tag):
            super().__init__(name=tag)
            self.first = kl.Dense(4, activation=SpikingBReLU(name=f"{tag}_1"))
            self.rest = [kl.Dense(4), SpikingBReLU(name=f"{tag}_2")]

        def call(self, x):
            return self.rest[1](self.rest[0](self.first(x)))

    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [Block("p"), Block("q")]
            self.last = SpikingSigmoid(name="r")

        def call(self, x):
            return self.last(self.blocks[1](self.blocks[0](x)))

    assert names(Net()) == ["p_1", "p_2", "q_1", "q_2", "r"]


def test_layer_alone_is_its_own_list():
    layer = SpikingBReLU()
    assert spiking_layers(layer) == [layer]
    assert spiking_layers(kl.Dense(2)) == []


def test_equal_names_in_nested_models_are_told_apart_by_their_paths():
    def block(name):
        return keras.Sequential([keras.Input((4,)), SpikingBReLU(0.25, name="act")], name=name)

    i = keras.Input((4,))
    model = keras.Model(i, SpikingBReLU(name="end")(block("two")(block("one")(i))))
    assert get_sharpness(model) == {"one/act": 0.25, "two/act": 0.25, "end": 0.0}
    set_sharpness(model, {"two/act": 0.5})
    assert get_sharpness(model) == {"one/act": 0.25, "two/act": 0.5, "end": 0.0}


def test_equal_paths_are_numbered():
    class Twice(kl.Layer):
        def __init__(self):
            super().__init__(name="twice")
            self.a, self.b = SpikingBReLU(0.1, name="act"), SpikingBReLU(0.2, name="act")

        def call(self, x):
            return self.b(self.a(x))

    assert get_sharpness(Twice()) == {"act": 0.1, "act#2": 0.2}


@given(st.floats(0, 1, width=32, allow_subnormal=False))
@settings(deadline=None, max_examples=30)
def test_one_number_sets_all_layers(value):
    model = plain_model()
    set_sharpness(model, value)
    assert [np.float32(s) for s in get_sharpness(model).values()] == [np.float32(value)] * 3


@pytest.mark.parametrize("values", [[1.0, 0.5, 0.0], (1, 0.5, 0), np.array([1.0, 0.5, 0.0])])
def test_sequence_sets_layers_from_input_to_output(values):
    model = plain_model()
    set_sharpness(model, values)
    assert get_sharpness(model) == {"s0": 1.0, "s1": 0.5, "s2": 0.0}


def test_numpy_numbers_set_all_layers():
    model = plain_model()
    for number in (np.float32(0.5), np.array(0.5)):
        set_sharpness(model, 0.0)
        set_sharpness(model, number)
        assert set(get_sharpness(model).values()) == {0.5}


def test_mapping_sets_only_what_it_names():
    model = plain_model()
    set_sharpness(model, {"s2": 1.0})
    assert get_sharpness(model) == {"s0": 0.0, "s1": 0.0, "s2": 1.0}


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ([1.0, 0.5], "got 2 sharpness values for 3 layers: s0, s1, s2"),
        ([], "got 0 sharpness values"),
        ({"s9": 1.0}, "no spiking activation is called 's9'; there are s0, s1, s2"),
        (1.5, "must lie in"),
        ([0.5, 0.5, -0.5], "sharpness of layer 's2'"),
        ({"s0": 0.5, "s1": float("nan")}, "sharpness of layer 's1'"),
        ("sharp", "must be a number"),
        ([[0.5], [0.5], [0.5, 0.5]], "must be a number"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(value, match):
    model = plain_model()
    set_sharpness(model, 0.25)
    with pytest.raises(DataError, match=match):
        set_sharpness(model, value)
    assert set(get_sharpness(model).values()) == {0.25}


def test_model_without_spiking_layers_is_refused_by_name():
    model = keras.Sequential([keras.Input((2,)), kl.Dense(2, activation="relu")], name="smooth")
    assert get_sharpness(model) == {}
    with pytest.raises(DataError, match="model 'smooth' has no spiking activation"):
        set_sharpness(model, 1.0)


def test_activation_arguments_act_as_sharp_as_they_are_set():
    model = keras.Sequential([keras.Input((1,)), kl.Dense(1, activation=SpikingBReLU(), use_bias=False)])
    model.layers[0].kernel.assign([[1.0]])
    x = np.float32([[0.25], [0.5], [0.75]])
    np.testing.assert_array_equal(model.predict(x, verbose=0), x)
    set_sharpness(model, 1.0)
    np.testing.assert_array_equal(model.predict(x, verbose=0), [[0.0], [1.0], [1.0]])
