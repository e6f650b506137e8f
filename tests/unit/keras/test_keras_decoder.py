"""The key and the decoder."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.errors import DataError
from strop.keras import SoftmaxDecode, key_generator

KEY = [[1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 1, 0, 0, 1]]


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def own_neurons(key):
    """Return for each class how many neurons stand for it alone."""
    return ((key == 1) & (key.sum(axis=0) == 1)).sum(axis=1)


sizes = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(n, 60)))


@given(sizes, st.integers(0, 2**32 - 1), st.booleans())
@settings(deadline=None)
def test_every_class_has_a_neuron_of_its_own(size, seed, overlapping):
    key = key_generator(*size, overlapping=overlapping, seed=seed)
    assert key.shape == size
    assert set(np.unique(key)) <= {0.0, 1.0}
    assert (key.sum(axis=1) == size[1] // size[0]).all()
    assert own_neurons(key).min() >= 1
    if not overlapping:
        assert key.sum(axis=0).max() == 1


@given(sizes, st.integers(0, 99), st.floats(0.01, 1.0), st.booleans())
@settings(deadline=None)
def test_sparsity_is_the_fraction_of_ones_or_is_refused(size, seed, sparsity, overlapping):
    (num_classes, width), ones = size, round(sparsity * size[1])
    fits = 1 <= ones <= (width - num_classes + 1 if overlapping else width // num_classes)
    if fits:
        key = key_generator(num_classes, width, overlapping, seed, sparsity=sparsity)
        assert (key.sum(axis=1) == ones).all()
        assert own_neurons(key).min() >= 1
    else:
        with pytest.raises(DataError, match="sparsity"):
            key_generator(num_classes, width, overlapping, seed, sparsity=sparsity)


def test_sparsity_changes_the_number_of_ones():
    assert key_generator(10, 100, seed=0, sparsity=0.3).sum() == 300
    assert key_generator(10, 100, seed=0, sparsity=0.05).sum() == 50
    assert key_generator(10, 100, seed=0).sum() == 100


def test_same_seed_same_key_and_other_seed_other_key():
    first, again, other = (key_generator(10, 100, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    generator = np.random.default_rng(7)
    np.testing.assert_array_equal(key_generator(10, 100, seed=generator), first)
    assert (key_generator(10, 100, seed=generator) != first).any()


def test_key_generator_leaves_the_global_random_state_alone():
    np.random.seed(1)  # noqa: NPY002  # the very state that must not move
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    key_generator(10, 100, seed=3)
    assert np.random.random() == expected  # noqa: NPY002


@pytest.mark.parametrize("overlapping", [True, False])
def test_width_below_the_number_of_classes_is_refused(overlapping):
    with pytest.raises(DataError, match=r"width 9 cannot give each of 10 classes a neuron of its own"):
        key_generator(10, 9, overlapping=overlapping)
    assert key_generator(10, 10, overlapping=overlapping, seed=0).sum(axis=0).tolist() == [1.0] * 10


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0, 5), "num_classes must be at least 1"),
        ((2.5, 5), "num_classes must be a whole number"),
        ((2, "5"), "width must be a whole number"),
        ((2, 5, 0.1), "sparsity is a keyword"),
    ],
)
def test_key_generator_names_the_bad_argument(arguments, match):
    with pytest.raises(DataError, match=match):
        key_generator(*arguments)


@pytest.mark.parametrize("sparsity", [0.0, -0.5, 1.5, float("nan")])
def test_sparsity_out_of_range_is_refused(sparsity):
    with pytest.raises(DataError, match="sparsity must lie in"):
        key_generator(2, 10, sparsity=sparsity)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=5, max_size=5), min_size=1, max_size=6))
@settings(deadline=None, max_examples=40)
def test_decoder_is_the_softmax_of_the_agreement_with_the_key(rows):
    x = np.float32(rows)
    expected = softmax((2 * x - 1) @ (2 * np.float32(KEY).T - 1))
    np.testing.assert_allclose(np.asarray(SoftmaxDecode(KEY)(x)), expected, rtol=1e-5, atol=1e-7)


def test_decoder_picks_the_class_whose_neurons_fire():
    key = key_generator(10, 60, seed=4)
    probabilities = np.asarray(SoftmaxDecode(key)(key))
    assert probabilities.argmax(axis=1).tolist() == list(range(10))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-6)


def test_decoder_works_along_the_last_axis():
    decode = SoftmaxDecode(KEY)
    x = np.random.default_rng(0).integers(0, 2, (2, 4, 5)).astype(np.float32)
    y = np.asarray(decode(x))
    assert y.shape == (2, 4, 3)
    np.testing.assert_allclose(y[1], np.asarray(decode(x[1])), rtol=1e-6)
    assert decode.compute_output_shape((None, 4, 5)) == (None, 4, 3)


@pytest.mark.parametrize(
    "key",
    [KEY, np.array(KEY), np.array(KEY, bool), {"type": "ndarray", "value": KEY}],
    ids=["list", "ints", "bools", "legacy"],
)
def test_key_may_be_list_array_or_what_the_original_wrote(key):
    decode = SoftmaxDecode(key)
    assert isinstance(decode.key, np.ndarray)
    np.testing.assert_array_equal(decode.key, np.float32(KEY))


def test_key_is_no_weight_and_cannot_be_written_to():
    source = np.float32(KEY)
    decode = SoftmaxDecode(source)
    decode.build((None, 5))
    assert decode.weights == []
    with pytest.raises(ValueError, match="read-only"):
        decode.key[0, 0] = 0
    source[0, 0] = 0
    assert decode.key[0, 0] == 1


def test_config_is_json_and_gives_the_same_layer():
    decode = SoftmaxDecode(size=(3, 20), name="decode")
    config = json.loads(json.dumps(decode.get_config()))
    again = SoftmaxDecode.from_config(config)
    np.testing.assert_array_equal(again.key, decode.key)
    assert again.name == "decode"
    assert decode.key.shape == (3, 20)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"key": [1, 0, 1]}, r"shape \(num_classes, width\), got \(3,\)"),
        ({"key": []}, "shape"),
        ({"key": [[1, 0], [2, 1]]}, "only 0 and 1"),
        ({"key": [[1, 0], [float("nan"), 1]]}, "only 0 and 1"),
        ({"key": [[1, 0], [0, 0]]}, "gives no neuron to class 1"),
        ({"key": [[1, 0], [0]]}, "not a matrix of numbers"),
        ({"key": "abc"}, "not a matrix of numbers"),
        ({"key": {"type": "ndarray"}}, "without the entry 'value'"),
        ({}, "either a key or a size"),
        ({"key": KEY, "size": (3, 5)}, "either a key or a size"),
        ({"size": 5}, "size of SoftmaxDecode"),
        ({"size": (10, 5)}, "width 5 cannot give each of 10 classes"),
    ],
)
def test_bad_key_is_refused_with_the_reason(arguments, match):
    with pytest.raises(DataError, match=match):
        SoftmaxDecode(**arguments)


def test_input_of_another_width_is_refused_with_both_widths():
    with pytest.raises(DataError, match=r"key for 5 neurons.*has 4"):
        SoftmaxDecode(KEY).build((None, 4))


def test_decoder_in_half_precision_still_sums_to_one():
    decode = SoftmaxDecode(key_generator(10, 100, seed=0), dtype="mixed_float16")
    x = keras.ops.cast(key_generator(10, 100, seed=0), "float16")
    y = np.asarray(keras.ops.cast(decode(x), "float32"))
    np.testing.assert_allclose(y.sum(axis=1), 1.0, atol=2e-3)
    assert y.argmax(axis=1).tolist() == list(range(10))


def test_certainty_beyond_float32_keeps_a_finite_loss_and_gradient():
    """Sure neurons give logits of ±200: Keras must find them behind the softmax, or the log overflows."""
    key = key_generator(2, 200, overlapping=False, seed=0)
    model = keras.Sequential([keras.Input((200,)), keras.layers.Dense(200), SoftmaxDecode(key)])
    model.layers[0].set_weights([np.eye(200, dtype=np.float32), np.zeros(200, np.float32)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    loss = model.train_on_batch(key, np.array([1, 0]))  # every neuron tells the wrong class
    assert np.isfinite(loss)
    assert loss > 300
    assert np.isfinite(model.layers[0].get_weights()[0]).all()


def test_temperature_divides_the_scores_and_leaves_the_classes() -> None:
    key = key_generator(4, 24, seed=3)
    spikes = np.random.default_rng(0).integers(0, 2, (50, 24)).astype("float32")
    plain, cool = SoftmaxDecode(key), SoftmaxDecode(key, temperature=8)
    scores = (2.0 * spikes - 1) @ (2.0 * key.T - 1) / 8
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    np.testing.assert_allclose(np.asarray(cool(spikes)), powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(cool(spikes)).argmax(axis=1), scores.argmax(axis=1))
    assert np.asarray(cool(spikes)).max() < np.asarray(plain(spikes)).max()


def test_temperature_is_kept_by_the_config_and_absent_where_it_is_one() -> None:
    layer = SoftmaxDecode([[1, 0], [0, 1]], temperature=16)
    assert SoftmaxDecode.from_config(layer.get_config()).temperature == 16.0
    assert "temperature" not in SoftmaxDecode([[1, 0], [0, 1]]).get_config()


@pytest.mark.parametrize("temperature", [3, 0, -2, float("nan"), float("inf"), "hot", 2.0**40])
def test_temperature_that_would_round_is_refused(temperature: object) -> None:
    with pytest.raises(DataError, match="temperature"):
        SoftmaxDecode([[1, 0], [0, 1]], temperature=temperature)
