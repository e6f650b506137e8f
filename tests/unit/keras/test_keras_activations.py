"""The spiking activations: values at every sharpness, the threshold exactly hit, gradients, and sharpness."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strop.errors import DataError, StropError
from strop.keras import SpikingActivation, SpikingBReLU, SpikingSigmoid

BOTH = (SpikingBReLU, SpikingSigmoid)
LAST_BELOW_ONE = float(np.nextafter(np.float32(1), np.float32(0)))

# TensorFlow takes subnormal numbers for zero, so they say nothing about the layers.
values = st.floats(-4, 4, width=32, allow_subnormal=False)
frames = hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=5), elements=values)
sharpnesses = st.floats(0, 1, width=32, allow_subnormal=False)


def evaluate(layer, values, dtype=np.float32):
    return np.asarray(layer(np.asarray(values, dtype)))


def gradient(layer, values):
    x = tf.constant(np.asarray(values, np.float32))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.reduce_sum(layer(x))
    return np.asarray(tape.gradient(y, x))


@given(frames)
@settings(deadline=None, max_examples=40)
def test_brelu_at_sharpness_0_is_exactly_the_clipped_input(x):
    np.testing.assert_array_equal(evaluate(SpikingBReLU(), x), np.clip(x, 0, 1))


def test_brelu_at_sharpness_0_keeps_the_smallest_input():
    tiny = np.finfo(np.float32).tiny
    np.testing.assert_array_equal(evaluate(SpikingBReLU(), [tiny, 1e-9, 0.1]), np.float32([tiny, 1e-9, 0.1]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("kind", "threshold"), [(SpikingBReLU, 0.5), (SpikingSigmoid, 0.0)])
def test_sharp_layer_spikes_from_exactly_its_threshold_on(kind, threshold, dtype):
    at, tiny = dtype(threshold), np.finfo(dtype).tiny
    # next to 0 the neighbours are subnormal, which TensorFlow takes for 0
    below = np.nextafter(at, dtype(-1)) if threshold else -tiny
    above = np.nextafter(at, dtype(1)) if threshold else tiny
    x = np.array([below, at, above, -60000, 60000], dtype)
    layer = kind(1.0, dtype=np.dtype(dtype).name)
    np.testing.assert_array_equal(evaluate(layer, x, dtype), np.array([0, 1, 1, 0, 1], dtype))
    assert layer.threshold == threshold


def test_sharp_sigmoid_counts_negative_zero_as_the_threshold():
    np.testing.assert_array_equal(evaluate(SpikingSigmoid(1.0), [-0.0, 0.0]), [1.0, 1.0])


@given(frames)
@settings(deadline=None, max_examples=40)
def test_sharp_layers_are_exactly_thresholds(x):
    np.testing.assert_array_equal(evaluate(SpikingBReLU(1.0), x), (x >= 0.5).astype(np.float32))
    np.testing.assert_array_equal(evaluate(SpikingSigmoid(1.0), x), (x >= 0.0).astype(np.float32))


@pytest.mark.parametrize("sharpness", [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, LAST_BELOW_ONE])
def test_brelu_between_is_the_line_of_width_one_minus_sharpness_through_the_middle(sharpness):
    layer, width = SpikingBReLU(sharpness), 1 - np.float64(np.float32(sharpness))
    x = np.float32(0.5 + width * np.linspace(-1, 1, 41))
    expected = np.clip((x.astype(np.float64) - 0.5) / width + 0.5, 0, 1)
    # rounding x to float32 is scaled by the slope: compare on the inputs as they are
    np.testing.assert_allclose(evaluate(layer, x), expected, atol=2e-6)
    assert evaluate(layer, [0.5])[0] == 0.5


def test_brelu_knees_lie_half_a_width_from_the_middle():
    y = evaluate(SpikingBReLU(0.5), [0.25, 0.375, 0.5, 0.625, 0.75])
    np.testing.assert_array_equal(y, [0.0, 0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("sharpness", [0.0, 0.25, 0.5, 0.9, 0.999])
def test_sigmoid_between_steepens_as_in_the_original(sharpness):
    x = np.linspace(-2, 2, 81)
    slope = 4 * np.log(2 + np.sqrt(3)) / (1 - sharpness + 0.001)
    expected = 1 / (1 + np.exp(np.clip(-slope * x.astype(np.float32).astype(np.float64), -700, 700)))
    np.testing.assert_allclose(evaluate(SpikingSigmoid(sharpness), x), expected, atol=1e-5)


@given(frames, sharpnesses)
@settings(deadline=None, max_examples=40)
def test_layers_are_monotone_within_0_and_1_at_any_sharpness(x, sharpness):
    for kind in BOTH:
        y = evaluate(kind(sharpness), np.sort(x, axis=None))
        assert np.isfinite(y).all()
        assert y.min() >= 0
        assert y.max() <= 1
        # TensorFlow's sigmoid of one number depends in its last bit on where in the array it stands
        assert np.diff(y).min(initial=0) >= -1e-6


@pytest.mark.parametrize("sharpness", [0.0, 0.5, 0.999, LAST_BELOW_ONE, 1.0])
@pytest.mark.parametrize("kind", BOTH)
def test_gradient_is_finite_everywhere(kind, sharpness):
    x = [-3e38, -1.0, -1e-30, 0.0, 1e-30, 0.25, 0.5, np.nextafter(np.float32(0.5), 0), 0.75, 1.0, 3e38]
    layer = kind(sharpness)
    assert np.isfinite(gradient(layer, x)).all()
    assert np.isfinite(evaluate(layer, x)).all()


@pytest.mark.parametrize("kind", BOTH)
def test_gradient_vanishes_at_full_sharpness_and_only_there(kind):
    near = [kind.threshold]
    assert gradient(kind(1.0), near)[0] == 0.0
    assert gradient(kind(0.5), near)[0] > gradient(kind(0.0), near)[0] >= 1.0


def test_brelu_gradient_is_the_slope_of_the_line():
    np.testing.assert_allclose(gradient(SpikingBReLU(0.75), [0.2, 0.5, 0.55, 0.8]), [0, 4, 4, 0], rtol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", BOTH)
def test_mixed_precision_gives_half_floats_and_keeps_the_sharpness_in_float32(kind, policy):
    layer = kind(LAST_BELOW_ONE, dtype=policy)
    x = keras.ops.cast(np.array([-9.0, 0.49, 0.5, 9.0], np.float32), layer.compute_dtype)
    y = layer(x)
    assert keras.backend.standardize_dtype(y.dtype) == layer.compute_dtype
    values = np.asarray(keras.ops.cast(y, "float32"))
    assert values[0] == 0
    assert values[-1] == 1
    assert np.isfinite(values).all()
    assert layer.sharpness < 1.0  # float16 would have rounded it to 1
    if kind is SpikingBReLU:
        assert values[2] == 0.5


def test_integers_are_thresholded_like_floats():
    np.testing.assert_array_equal(evaluate(SpikingBReLU(1.0), [-1, 0, 1, 2], np.int32), [0, 0, 1, 1])


@pytest.mark.parametrize("kind", BOTH)
def test_sharpness_can_be_read_and_set_before_and_after_building(kind):
    layer = kind(0.3)
    assert not layer.built
    assert layer.sharpness == 0.3
    layer.sharpness = 0.7
    evaluate(layer, [[0.0]])
    assert layer.built
    assert layer.sharpness == 0.7
    layer.sharpness = 1
    assert layer.sharpness == 1.0
    np.testing.assert_array_equal(evaluate(layer, [[0.6, -0.6]]), [[1.0, 0.0]])


@pytest.mark.parametrize("kind", BOTH)
def test_sharpness_is_one_weight_that_is_never_trained(kind):
    layer = kind()
    assert [weight.name for weight in layer.weights] == ["sharpness"]
    assert layer.trainable_weights == []
    assert layer.weights[0].shape == ()
    assert isinstance(layer, SpikingActivation)


@given(sharpnesses)
@settings(deadline=None, max_examples=40)
def test_config_carries_the_sharpness_of_now_without_loss(sharpness):
    layer = SpikingBReLU()
    layer.sharpness = sharpness
    again = SpikingBReLU.from_config(layer.get_config())
    assert again.sharpness == layer.sharpness
    assert np.float32(again.sharpness) == np.float32(sharpness)


@pytest.mark.parametrize("bad", [-0.1, 1.0000001, float("nan"), float("inf"), "sharp", None, [0.1, 0.2]])
def test_sharpness_out_of_range_is_refused_by_name(bad):
    with pytest.raises(DataError, match="sharpness of layer 'edge'"):
        SpikingBReLU(bad, name="edge")
    layer = SpikingSigmoid(0.25, name="edge")
    with pytest.raises(DataError, match="sharpness of layer 'edge'"):
        layer.sharpness = bad
    assert layer.sharpness == 0.25
    assert issubclass(DataError, StropError)
    assert issubclass(DataError, ValueError)


def test_default_names_are_readable_and_unique():
    keras.backend.clear_session()
    assert [SpikingBReLU().name, SpikingBReLU().name, SpikingSigmoid().name] == [
        "spiking_brelu",
        "spiking_brelu_1",
        "spiking_sigmoid",
    ]


def test_layer_passes_masks_and_shapes_on():
    layer = SpikingBReLU()
    assert layer.supports_masking
    assert layer.compute_output_shape((None, 3, 4)) == (None, 3, 4)
    assert layer(keras.Input((3, 4))).shape == (None, 3, 4)


def test_sharpness_moves_nothing_else_while_training():
    x = np.float32([[0.2, 0.9], [0.7, 0.1]])
    # Sums of 0.44 and 0.32, both on the ramp from 0.25 to 0.75: random weights may leave all of them beside it.
    dense = keras.layers.Dense(3, kernel_initializer=keras.initializers.Constant(0.4))
    model = keras.Sequential([keras.Input((2,)), dense, SpikingBReLU(0.5)])
    model.compile("sgd", "mse")
    before = model.layers[0].get_weights()[0].copy()
    model.fit(x, np.ones((2, 3), np.float32), epochs=2, verbose=0)
    assert model.layers[1].sharpness == 0.5
    assert np.abs(model.layers[0].get_weights()[0] - before).max() > 0


@pytest.mark.parametrize("activation", [SpikingBReLU, SpikingSigmoid])
@pytest.mark.parametrize("sharpness", [0.0, 0.3, 0.9, 0.999, 1.0])
def test_surrogate_changes_what_flows_back_and_not_one_bit_of_the_values(activation, sharpness):
    x = np.concatenate([np.linspace(-2, 2, 401), [0.0, 0.5, np.nextafter(np.float32(0.5), 0)]]).astype("float32")
    plain, surrogate = activation(sharpness), activation(sharpness, surrogate_width=0.8)
    np.testing.assert_array_equal(surrogate(x, training=True), plain(x, training=True))
    np.testing.assert_array_equal(surrogate(x), plain(x))


@pytest.mark.parametrize("activation", [SpikingBReLU, SpikingSigmoid])
def test_surrogate_gradient_is_that_of_a_layer_with_the_same_width(activation):
    x = tf.constant(np.linspace(-2, 2, 101).astype("float32"))

    def slope(layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return tape.gradient(y, x).numpy()

    assert np.all(slope(activation(1.0)) == 0)
    np.testing.assert_array_equal(
        slope(activation(1.0, surrogate_width=0.75)), slope(activation(0.25, surrogate_width=0.0))
    )
    # Below that width the surrogate has no say: the slope is wide enough.
    np.testing.assert_array_equal(slope(activation(0.125, surrogate_width=0.75)), slope(activation(0.125)))
    assert slope(activation(1.0, surrogate_width=0.75)).max() > 1


def test_surrogate_width_is_kept_by_the_config_and_checked():
    layer = SpikingBReLU(0.5, surrogate_width=0.25)
    assert SpikingBReLU.from_config(layer.get_config()).surrogate_width == 0.25
    assert "surrogate_width" not in SpikingBReLU(0.5).get_config()
    with pytest.raises(DataError, match="surrogate_width"):
        SpikingBReLU(surrogate_width=1.5)


def test_training_goes_on_below_a_finished_threshold_with_a_surrogate():
    def moved(width):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(6, name="first"),
                SpikingBReLU(1.0, surrogate_width=width),
                keras.layers.Dense(2),
            ]
        )
        model.compile("sgd", "mse")
        before = model.get_layer("first").get_weights()[0]
        x = np.random.default_rng(0).random((32, 4)).astype("float32")
        model.fit(x, x[:, :2], verbose=0)
        return np.abs(model.get_layer("first").get_weights()[0] - before).max()

    assert moved(0.0) == 0
    assert moved(1.0) > 0
