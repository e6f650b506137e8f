"""What Keras users hand over: datasets, tensors, dictionaries, model files; where its meaning is plain, it is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

import strop  # noqa: E402
from strop.errors import DataError, GraphError, StropError  # noqa: E402
from strop.keras import SpikingBReLU  # noqa: E402

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.random((25, 6)).astype(np.float32)


def weighted(model: keras.Model) -> keras.Model:
    """About half of the units fire on frames from 0 to 1."""
    for layer in model.layers:
        if isinstance(layer, L.Dense):
            kernel = np.random.default_rng(layer.units).normal(0, 0.5, layer.kernel.shape)
            layer.set_weights([kernel - kernel.mean(axis=0), np.full(layer.units, 0.5)])
    return model


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return weighted(keras.Sequential([L.Input((6,)), L.Dense(20), SpikingBReLU(1.0), L.Dense(4), L.Softmax()]))


@pytest.fixture(scope="module")
def y(model: keras.Model) -> np.ndarray:
    labels = model.predict(X, verbose=0).argmax(axis=-1)
    assert len(set(labels)) > 1
    return np.where(np.arange(25) < 20, labels, (labels + 1) % 4)


class _Batches(keras.utils.PyDataset):
    def __init__(self, x: np.ndarray, y: np.ndarray, size: int = 10) -> None:
        super().__init__()
        self.x, self.y, self.size = x, y, size

    @property
    def num_batches(self) -> int | None:
        return -(-len(self.x) // self.size) if self.size else None

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(number * self.size, (number + 1) * self.size)
        return self.x[part], self.y[part]


@pytest.mark.parametrize(
    ("frames", "labelled"),
    [
        (lambda x, y: tf.constant(x), False),
        (lambda x, y: tf.Variable(x), False),
        (lambda x, y: keras.ops.convert_to_tensor(x), False),
        (lambda x, y: tf.data.Dataset.from_tensor_slices(x), False),
        (lambda x, y: tf.data.Dataset.from_tensor_slices(x).batch(10), False),
        (lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)), True),
        (lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).batch(10), True),
        (lambda x, y: tf.data.Dataset.from_tensor_slices((x, y)).repeat().batch(5).take(5).prefetch(1), True),
        (lambda x, y: tf.data.Dataset.from_tensor_slices((x, np.eye(4)[y])).batch(10), True),
        (lambda x, y: tf.data.Dataset.from_tensor_slices((x, y, np.ones(25))).batch(10), True),
        (lambda x, y: _Batches(x, y), True),
        (lambda x, y: (tf.constant(x), tf.constant(y)), True),
        (lambda x, y: (x, y), True),
        (lambda x, y: [x, y], True),
        (lambda x, y: zip(tf.constant(x), y, strict=True), True),
    ],
)
def test_frames_and_labels_in_the_forms_of_keras(
    frames: Any, labelled: bool, model: keras.Model, y: np.ndarray
) -> None:
    report = strop.verify(model, frames(X, y), backends="reference")
    assert report.passed
    assert report.frames == 25
    assert report.keras is not None
    assert report.keras.accuracy == (0.8 if labelled else None)


def test_a_dataset_without_an_end_is_refused(model: keras.Model, y: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"repeats without end.*dataset\.take"):
        strop.verify(model, tf.data.Dataset.from_tensor_slices(X).repeat(), backends="reference")
    with pytest.raises(DataError, match="num_batches is None"):
        strop.verify(model, _Batches(X, y, 0), backends="reference")


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_stands_for_the_model_in_its_file(kind: Any, model: keras.Model, y: np.ndarray, tmp_path: Path) -> None:
    model.save(tmp_path / "m.keras")
    path = kind(tmp_path / "m.keras")
    report = strop.verify(path, X, y, backends="reference")
    assert report.passed
    assert report.keras is not None
    assert report.keras.accuracy == 0.8
    wanted = strop.simulate(strop.lower(model), X, "reference").output
    np.testing.assert_array_equal(strop.simulate(path, X, "reference").output, wanted)
    assert strop.lower(path, "binary").inputs[0].encoding == "binary"
    assert strop.inspect(path, X).totals["neurons"] == 20
    assert strop.export(path, "brian2", tmp_path / "out").is_dir()


def test_a_model_is_lowered_where_a_graph_is_expected(model: keras.Model, tmp_path: Path) -> None:
    wanted = strop.simulate(strop.lower(model), X, "reference").output
    np.testing.assert_array_equal(strop.simulate(model, X, "reference").output, wanted)
    assert strop.export(model, "brian2", tmp_path / "out", frames=(X, np.zeros(25))).is_dir()
    assert strop.build(model, "reference") is not None


def test_a_graph_is_not_lowered_again(model: keras.Model, tmp_path: Path) -> None:
    graph = strop.lower(model)
    with pytest.raises(GraphError, match="is a graph already"):
        strop.lower(graph)
    with pytest.raises(GraphError, match=r"encoding must be one of host.*Did you mean 'bitplane'\?"):
        strop.lower(model, "bit_plane")
    inputs = keras.Input((6,), name="left")
    named = keras.Model(inputs, SpikingBReLU(1.0)(L.Dense(3)(inputs)))
    with pytest.raises(GraphError, match=r"bits names 'lft'; the inputs are left. Did you mean 'left'\?"):
        strop.lower(named, "bitplane", bits={"lft": 3})


@pytest.mark.parametrize("given", [None, 3, X, object(), keras.layers.Dense(3)])
def test_what_is_no_model_is_refused(given: Any) -> None:
    with pytest.raises(StropError, match=r"strop\.verify takes a Keras 3 model, a strop\.Graph, or the path"):
        strop.verify(given, X, backends="reference")
    with pytest.raises(StropError, match=r"strop\.lower takes a Keras 3 model"):
        strop.lower(given)


def two_of_each() -> keras.Model:
    left, right = keras.Input((6,), name="left"), keras.Input((3,), name="right")
    hidden = SpikingBReLU(1.0)(L.Dense(20)(L.Concatenate()([left, right])))
    kind = L.Dense(4, activation="softmax", name="c")(hidden)
    size = L.Dense(3, activation="softmax", name="d")(hidden)
    return weighted(keras.Model({"left": left, "right": right}, {"kind": kind, "size": size}))


def test_dictionaries_go_by_the_keys_that_keras_itself_takes_or_by_the_names_of_layers() -> None:
    model = two_of_each()
    frames = {"left": X, "right": RNG.random((25, 3)).astype(np.float32)}
    answers = model.predict(frames, verbose=0)
    labels = {key: values.argmax(axis=-1) for key, values in answers.items()}
    assert all(len(set(own)) > 1 for own in labels.values())
    labels["size"] = (labels["size"] + 1) % 3
    data = tf.data.Dataset.from_tensor_slices((frames, labels))
    for x, y in (
        (frames, labels),
        ([X, frames["right"]], {"c": labels["kind"], "d": labels["size"]}),
        (frames, [labels["kind"], labels["size"]]),
        ((frames, labels), None),
        (data, None),
        (data.batch(10), None),
    ):
        report = strop.verify(model, x, y, backends="reference")
        assert report.passed
        assert report.keras is not None
        assert report.keras.accuracies == {"c": 1.0, "d": 0.0}
        assert report.keras.accuracy == 1.0
        assert report.backends["reference"].accuracies == {"c": 1.0, "d": 0.0}
    with pytest.raises(DataError, match=r"labels are given for 'knd', and the outputs are c, d. Did you mean 'kind'\?"):
        strop.verify(model, frames, {"knd": labels["kind"]}, backends="reference")


def test_backends_none_are_all_that_are_installed(model: keras.Model) -> None:
    from strop.running.registry import available_backends, runnable

    few = strop.lower(model, "current")
    report = strop.verify(few, X[:3], backends=None)
    left_out = {note.split(" ")[0] for note in report.notes if " is left out: " in note}
    installed = {name for name in available_backends() if runnable(name)}
    assert set(report.backends) | left_out == installed
    assert "reference" in report.backends
    assert report.passed
