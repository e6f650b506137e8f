"""Sharpeners and the logger inside real trainings: what Keras's callbacks see, and what lands in files."""

import csv
import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from strop.errors import DataError
from strop.keras import (
    AdaptiveSharpener,
    ScheduledSharpener,
    SharpeningLogger,
    SimpleSharpener,
    SoftmaxDecode,
    SpikingBReLU,
    get_sharpness,
    key_generator,
    set_sharpness,
)

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 48)
X = np.float32(np.eye(3)[Y] @ RNG.random((3, 6)) + 0.1 * RNG.random((48, 6)))


def classifier(**compile_options):
    """Return a model of two spiking layers, the first an activation argument inside a nested model."""
    # tracing a graph takes longer than these few batches
    options = {"run_eagerly": True, **compile_options}
    keras.utils.set_random_seed(1)
    inner = keras.Sequential([keras.Input((6,)), kl.Dense(12, activation=SpikingBReLU(name="low"))], name="inner")
    model = keras.Sequential(
        [
            keras.Input((6,)),
            inner,
            kl.Dense(9),
            SpikingBReLU(name="high"),
            SoftmaxDecode(key_generator(3, 9, seed=0)),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], **options)
    return model


def fit(model, *callbacks, epochs=20, batch_size=16, **arguments):
    arguments = {"x": X, "y": Y, "batch_size": batch_size, **arguments}
    return model.fit(epochs=epochs, verbose=0, callbacks=list(callbacks), **arguments)


class Watch(keras.callbacks.Callback):
    """Note how sharp the layers are when a batch begins."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(list(get_sharpness(self.model).values()))


def test_history_holds_the_sharpness_of_every_layer_and_ends_fully_sharpened():
    model = classifier()
    history = fit(model, SimpleSharpener(1, steps=2)).history
    assert history["sharpness_low"] == [0, 0, 0.5, 1, 1, 1]
    assert history["sharpness_high"] == [0, 0, 0, 0, 0.5, 1]
    assert history["sharpness"] == [0, 0, 0.25, 0.5, 0.75, 1]
    assert get_sharpness(model) == {"low": 1.0, "high": 1.0}


def test_per_batch_sharpening_trains_each_batch_sharper():
    model, watch = classifier(), Watch()
    fit(model, SimpleSharpener(1, steps=2, epochs=False), watch)
    assert watch.seen[:8] == [[0, 0], [0, 0], [0, 0], [0, 0], [0.5, 0], [1, 0], [1, 0.5], [1, 1]]
    assert len(watch.seen) == 4 * 3


def test_scheduled_training_starts_in_epoch_0_and_is_sharp_on_time():
    model, watch = classifier(), Watch()
    history = fit(model, ScheduledSharpener([(0, 1), (1, 2)]), watch).history
    assert np.array(watch.seen)[:, 0] == pytest.approx([0, 1 / 3, 2 / 3] + [1] * 6)
    assert history["sharpness_low"] == [1, 1, 1]
    assert history["sharpness_high"] == [0, 1, 1]


def test_scheduled_training_with_one_batch_per_epoch():
    history = fit(classifier(), ScheduledSharpener([(0, 2), (2, 3)]), batch_size=48).history
    assert history["sharpness_low"] == [0.5, 1, 1, 1]
    assert history["sharpness_high"] == [0, 0, 1, 1]


def test_scheduled_training_from_a_generator_of_unknown_length():
    def batches():
        for start in (0, 16, 32):
            yield X[start : start + 16], Y[start : start + 16]

    shapes = (tf.TensorSpec((None, 6), tf.float32), tf.TensorSpec((None,), tf.int64))
    stream = tf.data.Dataset.from_generator(batches, output_signature=shapes)
    model, watch = classifier(run_eagerly=False), Watch()
    sharpener = ScheduledSharpener([(0, 2), (2, 3)])
    with pytest.warns(UserWarning, match="ran out of data"):  # Keras says so at the end of each such epoch
        history = fit(model, sharpener, watch, x=stream, y=None, batch_size=None, shuffle=False).history
    assert history["sharpness_low"] == [0, 1, 1, 1]
    assert history["sharpness_high"] == [0, 0, 1, 1]
    first = [low for low, _ in watch.seen]
    assert first[:4] == [0.0] * 4  # Keras begins a fourth batch before it finds that there is none
    assert first[4:7] == pytest.approx([1 / 2, 1 / 2 + 1 / 6, 1 / 2 + 2 / 6])


def test_several_batches_in_one_execution_sharpen_as_far():
    model = classifier(steps_per_execution=3, run_eagerly=False)
    history = fit(model, ScheduledSharpener([(0, 2), (1, 2)]), batch_size=8).history
    assert history["sharpness_low"] == [0.5, 1, 1]
    assert history["sharpness_high"] == [0, 1, 1]


def test_adaptive_training_ends_by_itself_fully_sharpened():
    model = classifier()
    sharpener = AdaptiveSharpener(min_init_epochs=2, rate=0.5, cz_rate=0.5, sig_decrease=0.3, sig_increase=5.0)
    history = fit(model, sharpener, epochs=200)
    assert 2 + 2 * 2 < len(history.epoch) < 200
    assert history.history["sharpness"][0] == 0.0
    assert history.history["sharpness"][-1] == 1.0


def test_keras_callbacks_after_the_sharpener_see_the_sharpness(tmp_path):
    log = tmp_path / "log.csv"
    best = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras", monitor="sharpness", mode="max", save_best_only=True
    )
    fit(classifier(), SimpleSharpener(0, steps=1), keras.callbacks.CSVLogger(str(log)), best)
    with log.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["sharpness"]) for row in rows] == [0.0, 0.5, 1.0]
    assert get_sharpness(keras.saving.load_model(tmp_path / "best.keras")) == {"low": 1.0, "high": 1.0}


def test_progress_bar_shows_the_sharpness(capsys):
    classifier().fit(X, Y, epochs=2, verbose=2, callbacks=[SimpleSharpener(0, steps=2)])
    shown = capsys.readouterr().out
    assert "sharpness_low: 0.5000" in shown
    assert "sharpness: 0.2500" in shown


def test_lower_layers_stop_learning_when_sharp_and_the_ones_above_go_on():
    model = classifier()
    set_sharpness(model, {"low": 1.0})
    low, high = model.get_layer("inner").layers[0].kernel, model.layers[1].kernel
    before = [np.asarray(kernel).copy() for kernel in (low, high)]
    fit(model, epochs=2)
    assert np.array_equal(np.asarray(low), before[0])
    assert not np.array_equal(np.asarray(high), before[1])


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_logger_writes_a_json_line_per_epoch(tmp_path):
    path = tmp_path / "logs" / "run.jsonl"
    history = fit(classifier(), SimpleSharpener(0, steps=1), SharpeningLogger(path), validation_data=(X, Y)).history
    rows = records(path)
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    for name in (
        "loss",
        "accuracy",
        "val_loss",
        "val_accuracy",
        "sharpness",
        "sharpness_low",
        "sharpness_high",
    ):
        assert [row[name] for row in rows] == pytest.approx(history[name])
    assert [row["sharpness_low"] for row in rows] == [0, 1, 1]
    assert os.listdir(path.parent) == ["run.jsonl"]


def test_logger_writes_csv(tmp_path):
    path = tmp_path / "run.csv"
    history = fit(classifier(), SimpleSharpener(0, steps=1), SharpeningLogger(path)).history
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [0, 1, 2]
    assert [float(row["loss"]) for row in rows] == pytest.approx(history["loss"])
    assert [float(row["sharpness_high"]) for row in rows] == [0, 0, 1]


def test_logger_measures_the_sharpened_model_and_puts_the_sharpness_back(tmp_path):
    model, path = classifier(), tmp_path / "run.jsonl"
    set_sharpness(model, [0.3, 0.1])
    # without a sharpener, and with a learning rate of 0: the model of the end is the one that was measured
    model.optimizer.learning_rate = 0.0
    history = fit(model, SharpeningLogger(path, (X, Y), batch_size=7), epochs=2).history
    assert list(get_sharpness(model).values()) == [0.3, 0.1]
    set_sharpness(model, 1.0)
    loss, accuracy = model.evaluate(X, Y, verbose=0)
    for row in records(path):
        assert row["sharpened_loss"] == pytest.approx(loss, rel=1e-5)
        assert row["sharpened_accuracy"] == pytest.approx(accuracy)
        assert row["sharpness_low"] == 0.3
        assert row["loss"] != pytest.approx(loss, rel=1e-3)
    assert history["sharpened_accuracy"] == pytest.approx([accuracy] * 2)


def test_logger_puts_the_sharpness_back_when_the_measurement_fails(tmp_path):
    model = classifier()
    set_sharpness(model, [0.3, 0.1])
    with pytest.raises(ValueError):
        fit(model, SharpeningLogger(tmp_path / "run.jsonl", (X[:, :2], Y)))
    assert list(get_sharpness(model).values()) == [0.3, 0.1]


def test_measuring_does_not_change_the_training(tmp_path):
    losses = [
        fit(classifier(), SimpleSharpener(0, steps=2), *logger).history["loss"]
        for logger in ([], [SharpeningLogger(tmp_path / "run.jsonl", (X, Y))])
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_logger_begins_anew_or_appends(tmp_path, ending):
    path = tmp_path / f"run.{ending}"

    def epochs():
        if ending == "jsonl":
            return [row["epoch"] for row in records(path)]
        with path.open(newline="") as file:
            return [int(row["epoch"]) for row in csv.DictReader(file)]

    model = classifier()
    fit(model, SharpeningLogger(path), epochs=2)
    fit(model, SharpeningLogger(path, append=True), epochs=4, initial_epoch=2)
    assert epochs() == [0, 1, 2, 3]
    fit(model, SharpeningLogger(path), epochs=1)
    assert epochs() == [0]


def test_numbers_that_are_not_finite_become_null(tmp_path):
    path = tmp_path / "run.jsonl"
    logger = SharpeningLogger(path)
    logger.set_model(classifier())
    logger.on_train_begin()
    logger.on_epoch_end(0, {"loss": float("nan"), "scale": np.float32(2), "top": float("inf"), "note": "warm-up"})
    assert "NaN" not in path.read_text()
    (row,) = records(path)
    assert (row["loss"], row["scale"], row["top"], row["note"]) == (None, 2.0, None, "warm-up")


def test_file_that_cannot_be_renamed_into_place_leaves_the_old_one_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "run.jsonl"
    path.write_text("old\n")
    logger = SharpeningLogger(path)
    logger.set_model(classifier())
    logger.on_train_begin()

    def refuse(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        logger.on_epoch_end(0, {"loss": 1.0})
    assert path.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["run.jsonl"]


@pytest.mark.parametrize("content", ["{not json\n", "[1, 2]\n", b"\xff\xfe\xff"])
def test_file_that_cannot_be_appended_to_is_refused_by_name(tmp_path, content):
    path = tmp_path / "run.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=r"cannot append to .*run\.jsonl"):
        SharpeningLogger(path, append=True).on_train_begin()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [(("run.json",), "writes .jsonl or .csv"), (("run.csv", X), "pair"), (("run.csv", (X,)), "pair")],
)
def test_logger_refuses_what_it_cannot_do(arguments, match):
    with pytest.raises(DataError, match=match):
        SharpeningLogger(*arguments)
