"""Read-outs: every function that may end a network, what may follow it, and the classes that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from proof import prove  # noqa: E402
from random_networks import randomise  # noqa: E402

import strop  # noqa: E402
from strop.errors import UnsupportedLayerError  # noqa: E402
from strop.keras import SoftmaxDecode, SpikingBReLU, key_generator  # noqa: E402
from strop.running.decode import answered_classes, decides, respond  # noqa: E402

L = keras.layers
ops = keras.ops
End = Callable[[Any], Any]


def spike() -> keras.layers.Layer:
    return SpikingBReLU(1.0)


def on_images(end: End) -> keras.Model:
    x = keras.Input((4, 5, 2))
    return keras.Model(x, end(spike()(L.Conv2D(3, 2)(x))))


def on_vectors(end: End) -> keras.Model:
    x = keras.Input((6,))
    return keras.Model(x, end(spike()(L.Dense(9)(x))))


def heads(x: Any, count: int = 3, activation: str = "softmax") -> list[Any]:
    return [L.Dense(4, activation=activation)(x) for _ in range(count)]


def channels_first(x: Any) -> Any:
    return L.Softmax(axis=1)(L.Conv2D(4, 2, data_format="channels_first", use_bias=False)(L.Permute((3, 1, 2))(x)))


VECTORS: dict[str, tuple[End, str]] = {
    "sigmoid of one": (lambda x: L.Dense(1, activation="sigmoid")(x), "sigmoid"),
    "sigmoid of several": (lambda x: L.Dense(3, activation="sigmoid")(x), "sigmoid"),
    "hard sigmoid": (lambda x: L.Dense(1, activation="hard_sigmoid")(x), "hard_sigmoid"),
    "tanh": (lambda x: L.Dense(2, activation="tanh")(x), "tanh"),
    "relu": (lambda x: L.ReLU()(L.Dense(4)(x)), "relu"),
    "relu6": (lambda x: L.ReLU(6.0)(3.0 * L.Dense(4)(x)), "relu6"),
    "softplus": (lambda x: ops.softplus(L.Dense(4)(x)), "softplus"),
    "log of a sigmoid": (lambda x: keras.activations.log_sigmoid(L.Dense(4)(x)), "log_sigmoid"),
    "softsign": (lambda x: L.Activation("softsign")(L.Dense(4)(x)), "softsign"),
    "hard tanh": (lambda x: L.Activation("hard_tanh")(L.Dense(4)(x)), "hard_tanh"),
    "relu function": (lambda x: keras.activations.relu(L.Dense(4)(x)), "relu"),
    "log softmax": (lambda x: L.Dense(4, activation="log_softmax")(x), "log_softmax"),
    "log softmax, operation": (lambda x: ops.log_softmax(L.Dense(4)(x)), "log_softmax"),
    "dropout behind": (lambda x: L.Identity()(L.Dropout(0.5)(L.Dense(4, activation="softmax")(x))), "softmax"),
    "reshape behind": (lambda x: L.Reshape((2, 2))(L.Dense(4, activation="softmax")(x)), "softmax"),
    "flatten behind": (lambda x: L.Flatten()(L.Dense(1, activation="sigmoid")(x)), "sigmoid"),
    "slice behind": (lambda x: L.Dense(4, activation="softmax")(x)[:, 1:3], "softmax"),
    "one value behind": (lambda x: L.Dense(2, activation="softmax")(x)[:, 1], "softmax"),
    "repeated": (lambda x: L.RepeatVector(3)(L.Dense(4, activation="softmax")(x)), "softmax"),
    "padded": (lambda x: ops.pad(L.Dense(4, activation="softmax")(x), ((0, 0), (1, 2))), "softmax"),
    "turned round": (lambda x: ops.flip(L.Dense(4, activation="softmax")(x), axis=1), "softmax"),
    "argmax": (lambda x: ops.argmax(L.Dense(4)(x), axis=-1), "linear"),
    "argmax of a softmax": (
        lambda x: ops.cast(ops.argmax(L.Dense(4, activation="softmax")(x), axis=1), "int64"),
        "softmax",
    ),
    "average": (lambda x: L.Average()(heads(x)), "softmax"),
    "mean of a stack": (lambda x: ops.mean(ops.stack(heads(x), axis=1), axis=1), "softmax"),
    "pooled average": (lambda x: L.GlobalAveragePooling1D()(ops.stack(heads(x, 2), axis=1)), "softmax"),
    "weighted": (lambda x: 0.25 * heads(x)[0] + 0.75 * heads(x)[1], "softmax"),
    "difference": (lambda x: L.Subtract()(heads(x, 2)) / 2.0, "softmax"),
    "sum of sigmoids": (lambda x: sum(heads(x, 3, "sigmoid")[1:], heads(x, 1, "sigmoid")[0]), "sigmoid"),
    "average of one sigmoid each": (
        lambda x: L.Average()([L.Dense(1, activation="sigmoid")(x) for _ in range(3)]),
        "sigmoid",
    ),
    "argmax of an average": (lambda x: ops.argmax(L.Average()(heads(x)), axis=-1), "softmax"),
    "joined heads": (lambda x: L.Concatenate()(heads(x, 2)), "softmax"),
    "joined sigmoids": (lambda x: L.Concatenate()([L.Dense(n, activation="sigmoid")(x) for n in (1, 3)]), "sigmoid"),
    "joined along another axis": (
        lambda x: L.Concatenate(axis=1)([L.Reshape((1, 4))(head) for head in heads(x)]),
        "softmax",
    ),
    "keys averaged": (
        lambda x: L.Average()([SoftmaxDecode(key_generator(4, 9, seed=k), temperature=4.0)(x) for k in (1, 2)]),
        "softmax",
    ),
    "softmax of spikes": (lambda x: L.Softmax()(x), "softmax"),
}
IMAGES: dict[str, tuple[End, str]] = {
    "over the rows": (lambda x: L.Softmax(axis=1)(x), "softmax"),
    "over the columns": (lambda x: ops.softmax(L.Conv2D(2, 1)(x), axis=-2), "softmax"),
    "channels first": (channels_first, "softmax"),
    "channels last, moved to the front": (
        lambda x: L.Permute((3, 1, 2))(L.Conv2D(4, 1, activation="softmax")(x)),
        "softmax",
    ),
    "each place, then all together": (lambda x: L.Flatten()(L.Conv2D(4, 1, activation="softmax")(x)), "softmax"),
    "mean of all places": (lambda x: L.GlobalAveragePooling2D()(L.Conv2D(4, 1, activation="softmax")(x)), "softmax"),
    "enlarged": (lambda x: L.UpSampling2D(2)(L.Conv2D(2, 1, activation="sigmoid")(x)), "sigmoid"),
    "class of each place": (lambda x: ops.argmax(L.Conv2D(4, 1)(x), axis=-1), "linear"),
    "class of each column": (lambda x: ops.argmax(L.Conv2D(4, 1)(x), axis=1), "linear"),
    "under TimeDistributed": (lambda x: L.TimeDistributed(L.Dense(3, activation="tanh"))(x), "tanh"),
    "softmax under TimeDistributed": (lambda x: L.TimeDistributed(L.Dense(3, activation="softmax"))(x), "softmax"),
}


@pytest.mark.parametrize("name", VECTORS)
def test_answers_of_vectors_are_those_of_keras(name: str) -> None:
    end, kind = VECTORS[name]
    model = on_vectors(end)
    prove(model)
    assert [readout.kind for readout in strop.lower(model).readouts] == [kind]


@pytest.mark.parametrize("name", IMAGES)
def test_answers_of_images_are_those_of_keras(name: str) -> None:
    end, kind = IMAGES[name]
    model = on_images(end)
    prove(model)
    assert [readout.kind for readout in strop.lower(model).readouts] == [kind]


def test_moves_of_whole_groups_act_on_the_logits() -> None:
    """Nothing is left to be done behind the function, so that other people's readers of the graph see plain logits."""
    for end in ("dropout behind", "flatten behind", "joined sigmoids", "repeated", "joined along another axis"):
        (readout,) = strop.lower(on_vectors(VECTORS[end][0])).readouts
        assert readout.after is None, end
    assert strop.lower(on_vectors(VECTORS["reshape behind"][0])).readouts[0].after is not None


# Classes --------------------------------------------------------------------------------------------------------------


def classes_of(end: End, labels: Callable[[np.ndarray], np.ndarray]) -> strop.Report:
    """Verify with the classes that Keras's own answers stand for as labels."""
    model = on_vectors(end)
    frames = np.random.default_rng(4).random((60, 6)).astype(np.float32)
    for seed in range(10):  # the first random weights that do not decide the same for all frames
        randomise(model, np.random.default_rng(seed))
        wanted = labels(model.predict(frames, verbose=0))
        if len(set(wanted.tolist())) > 1:
            break
    assert len(set(wanted.tolist())) > 1
    graph = strop.lower(model)
    assert decides(graph)
    found = strop.simulate(graph, frames, "reference")
    np.testing.assert_array_equal(found.classes, wanted)
    report = strop.verify(model, frames, wanted, backends=("reference",))
    assert report.passed, str(report)
    assert report.keras is not None
    assert report.keras.accuracy == report.backends["reference"].accuracy == 1.0
    return report


def largest(answers: np.ndarray) -> np.ndarray:
    return answers.argmax(axis=-1)


def likely(answers: np.ndarray) -> np.ndarray:
    return (answers.reshape(-1) > 0.5).astype(np.int64)


DECIDING: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **dict.fromkeys(("sigmoid of one", "hard sigmoid", "flatten behind", "average of one sigmoid each"), likely),
    **dict.fromkeys(("tanh", "relu", "relu6", "log softmax", "average", "joined heads", "weighted", "padded"), largest),
    **dict.fromkeys(("turned round", "slice behind", "sigmoid of several", "keys averaged", "hard tanh"), largest),
    **dict.fromkeys(("argmax", "argmax of a softmax", "argmax of an average"), lambda answers: answers),
}


@pytest.mark.parametrize("name", DECIDING)
def test_classes_are_those_that_keras_users_take(name: str) -> None:
    classes_of(VECTORS[name][0], DECIDING[name])


def test_a_probability_of_a_half_is_class_0() -> None:
    """As Keras's BinaryAccuracy has it: class 1 iff p > 0.5."""
    model = on_vectors(VECTORS["sigmoid of one"][0])
    for variable in model.weights:
        if not variable.path.endswith("sharpness"):
            variable.assign(np.zeros(variable.shape))
    model.layers[-1].bias.assign([0.0])
    frames = np.zeros((3, 6), np.float32)
    result = strop.simulate(strop.lower(model), frames, "reference")
    assert result.output.tolist() == [[0.5]] * 3
    assert result.classes.tolist() == [0, 0, 0]
    metric = keras.metrics.BinaryAccuracy()
    metric.update_state([[0.0]] * 3, result.output)
    assert float(metric.result()) == 1.0
    model.layers[-1].bias.assign([1e-30])  # float64 has no other sigmoid for it than 0.5
    assert strop.simulate(strop.lower(model), frames, "reference").classes.tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["repeated", "reshape behind", "one value behind"])
def test_what_is_no_vector_decides_nothing(name: str) -> None:
    graph = strop.lower(on_vectors(VECTORS[name][0]))
    assert not decides(graph)
    assert strop.simulate(graph, np.zeros((2, 6), np.float32), "reference").classes is None


def test_a_wrong_function_changes_the_answers() -> None:
    """Every kind answers in its own way: no two of them are taken for one another by the comparisons above."""
    (readout,) = strop.lower(on_vectors(VECTORS["sigmoid of several"][0])).readouts
    logits = np.array([[-3.5, 0.7, 6.5]])
    kinds = ("sigmoid", "hard_sigmoid", "log_sigmoid", "tanh", "hard_tanh", "relu", "relu6", "softplus", "softsign")
    answers = [respond(type(readout)("r", k, readout.sources, readout.operators), logits) for k in kinds]
    for answer, kind in zip(answers, kinds, strict=True):
        expected = keras.ops.convert_to_numpy(getattr(keras.activations, kind)(keras.ops.convert_to_tensor(logits)))
        np.testing.assert_allclose(answer, expected, rtol=1e-12)
    assert len({tuple(answer.round(6).reshape(-1)) for answer in answers}) == len(kinds)


@pytest.mark.parametrize("name", ["sigmoid of one", "hard sigmoid", "argmax", "log softmax", "sigmoid of several"])
def test_decisions_as_spikes_are_those_of_the_host(name: str) -> None:
    model = on_vectors(VECTORS[name][0])
    randomise(model, np.random.default_rng(3))
    frames = np.random.default_rng(4).random((60, 6)).astype(np.float32)
    host, spikes = (strop.lower(model, decision=decision) for decision in ("host", "spikes"))
    assert len(spikes.populations) == len(host.populations) + 2
    wanted = strop.simulate(host, frames, "reference").classes
    np.testing.assert_array_equal(strop.simulate(spikes, frames, "reference").classes, wanted)
    assert len(set(wanted.tolist())) > 1
    report = strop.verify(model, frames, wanted, backends=("reference",), decision="spikes")
    assert report.passed, str(report)
    assert report.keras is not None
    assert report.keras.accuracy == 1.0


def test_answers_of_keras_are_read_as_classes() -> None:
    graph = strop.lower(on_vectors(VECTORS["argmax"][0]))
    assert answered_classes(graph.readouts[0], np.array([2, 0], np.int32)).tolist() == [2, 0]


# Refusals -------------------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[End, str]] = {
    "dense behind": (lambda x: L.Dense(3)(L.Dense(4, activation="softmax")(x)), "follows the decoder"),
    "a constant added": (lambda x: 1.0 - L.Dense(4, activation="softmax")(x), "adds a constant"),
    "the largest of it": (lambda x: ops.max(ops.stack(heads(x), axis=1), axis=1), "largest value"),
    "product": (lambda x: heads(x)[0] * heads(x)[1], "not spikes"),
    "softmax of a softmax": (lambda x: L.Softmax()(L.Dense(4, activation="softmax")(x)), "follows the decoder"),
    "kinds mixed": (lambda x: L.Add()([*heads(x, 1), *heads(x, 1, "sigmoid")]), "different kinds"),
    "sizes mixed": (
        lambda x: L.Concatenate()([L.Dense(n, activation="softmax")(x) for n in (3, 4)]),
        "different kinds or sizes",
    ),
    "with spikes": (lambda x: L.Concatenate()([x, *heads(x, 1)]), "values that are none"),
    "argmax of a sigmoid": (lambda x: ops.argmax(L.Dense(4, activation="sigmoid")(x), axis=1), "float32 values"),
    "behind an argmax": (lambda x: ops.expand_dims(ops.argmax(L.Dense(4)(x), axis=1), 1), "follows an argmax"),
    "argmax over frames": (lambda x: ops.argmax(L.Dense(4)(x), axis=0), "batch axis"),
    "spikes behind": (lambda x: spike()(L.Dense(4, activation="softmax")(x)), "follows the decoder"),
    "spikes behind a tanh": (lambda x: spike()(L.Dense(4, activation="tanh", name="t")(x)), "'t'.*'tanh' is not a thr"),
    "parameters": (lambda x: L.ReLU(negative_slope=0.1, name="r")(L.Dense(4)(x)), "'r'.*not two"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_more_than_move_or_average_answers_is_refused(name: str) -> None:
    end, message = REFUSED[name]
    with pytest.raises(UnsupportedLayerError, match=message):
        strop.lower(on_vectors(end))


@pytest.mark.parametrize("name", ["average", "relu", "argmax of an average", "average of one sigmoid each"])
def test_decisions_that_no_comparison_makes_are_refused_as_spikes(name: str) -> None:
    with pytest.raises(UnsupportedLayerError, match="decision='host'"):
        strop.lower(on_vectors(VECTORS[name][0]), decision="spikes")
