"""The automatic sharpener in real trainings: what comes out, what is logged, and going on after an interruption."""

import csv
import json
import math
import signal
import subprocess
import sys
import textwrap
import warnings

import keras
import numpy as np
import pytest
from keras import layers as kl

from strop.errors import DataError, ModelFileError
from strop.keras import (
    AutoSharpener,
    SoftmaxDecode,
    SpikingBReLU,
    get_sharpness,
    key_generator,
    set_sharpness,
)

RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 48)
X = np.float32(np.eye(3)[Y] @ RNG.random((3, 6)) + 0.1 * RNG.random((48, 6)))


def classifier(surrogate=0.0, optimizer=None, names=("low", "high"), width=12):
    """Return a model of two spiking layers, the first an activation argument inside a nested model."""
    keras.utils.set_random_seed(1)
    low, high = (SpikingBReLU(name=name, surrogate_width=surrogate) for name in names)
    inner = keras.Sequential([keras.Input((6,)), kl.Dense(width, activation=low)], name="inner")
    readout = SoftmaxDecode(key_generator(3, 9, seed=0))
    model = keras.Sequential([keras.Input((6,)), inner, kl.Dense(9), kl.BatchNormalization(), high, readout])
    # tracing a graph takes longer than these few batches
    optimizer = optimizer or keras.optimizers.Adam(0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True)
    return model


def fit(model, *callbacks, epochs=30, **arguments):
    arguments = {"x": X, "y": Y, "batch_size": 24, "validation_data": (X, Y), "verbose": 0, **arguments}
    return model.fit(epochs=epochs, callbacks=list(callbacks), **arguments).history


class Interrupt(keras.callbacks.Callback):
    """End the training as Ctrl-C does, in the middle of an epoch; note the epochs that were begun."""

    def __init__(self, at=None):
        super().__init__()
        self.at, self.epochs = at, []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        if self.epochs[-1] == self.at and batch == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("surrogate", [0.0, 1.0])
def test_training_ends_fully_sharpened_with_the_best_sharp_epoch(surrogate):
    model, sharpener = classifier(surrogate), AutoSharpener()
    history = fit(model, sharpener, epochs=20)
    sharp = [epoch for epoch, value in enumerate(history["sharpness"]) if value == 1.0]
    assert sharp
    assert history["sharpness"][0] == 0.0
    assert get_sharpness(model) == {"low": 1.0, "high": 1.0}
    best = max(sharp, key=lambda epoch: (history["val_accuracy"][epoch], -history["val_loss"][epoch]))
    assert sharpener.best_epoch == best
    loss, accuracy = model.evaluate(X, Y, verbose=0)
    assert accuracy == pytest.approx(history["val_accuracy"][best])
    assert loss == pytest.approx(history["val_loss"][best], rel=1e-5)
    assert sharpener.finished == (len(history["loss"]) < 20)


def test_training_stops_by_itself():
    sharpener = AutoSharpener()
    history = fit(classifier(1.0), sharpener, epochs=200)
    assert len(history["loss"]) < 100
    assert sharpener.finished


def test_better_weights_that_were_not_fully_sharpened_never_come_back():
    class Praise(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["figure"] = 1000.0 - epoch

    model, sharpener = classifier(), AutoSharpener(monitor="figure", mode="max")
    history = fit(model, Praise(), sharpener)
    assert sharpener.best_epoch == history["sharpness"].index(1.0) > 3
    assert get_sharpness(model) == {"low": 1.0, "high": 1.0}


def test_keras_csv_logger_and_history_have_the_sharpness_of_every_epoch(tmp_path):
    path = tmp_path / "log.csv"
    history = fit(classifier(1.0), AutoSharpener(), keras.callbacks.CSVLogger(str(path)), epochs=8)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    for name in ("sharpness", "sharpness_low", "sharpness_high"):
        assert [float(row[name]) for row in rows] == history[name]
    assert history["sharpness_low"][-1] == 1.0
    assert all(low >= high for low, high in zip(history["sharpness_low"], history["sharpness_high"], strict=True))


def test_progress_bar_and_summary_show_where_it_stands(capsys):
    classifier(1.0).fit(X, Y, epochs=5, verbose=2, validation_data=(X, Y), callbacks=[AutoSharpener()])
    shown = capsys.readouterr().out
    assert "sharpness_low: 1.0000" in shown
    assert "fully sharpened: val_accuracy" in shown
    assert "more epochs may bring more" in shown
    assert "dead" in shown
    fit(classifier(1.0), AutoSharpener(verbose=True), epochs=4)
    shown = capsys.readouterr().out
    assert "epoch 0: sharpness low=0 high=0; sharpening by" in shown
    fit(classifier(1.0), AutoSharpener(), epochs=4)
    assert capsys.readouterr().out == ""


def test_neurons_are_counted_on_the_validation_frames_or_on_those_given():
    sharpener = AutoSharpener()
    fit(classifier(1.0), sharpener, epochs=4)
    assert sharpener.neurons.frames == 48
    assert [layer.units for layer in sharpener.neurons.layers] == [12, 9]
    assert 0 < sharpener.neurons.layers[0].rate < 1
    sharpener = AutoSharpener(frames=X[:10])
    fit(classifier(1.0), sharpener, epochs=4, validation_data=None)
    assert sharpener.neurons.frames == 10


def test_without_validation_the_training_figures_decide():
    model, sharpener = classifier(1.0), AutoSharpener()
    history = fit(model, sharpener, epochs=12, validation_data=None)
    assert get_sharpness(model) == {"low": 1.0, "high": 1.0}
    assert sharpener.best["accuracy"] == max(
        accuracy for accuracy, sharp in zip(history["accuracy"], history["sharpness"], strict=True) if sharp == 1.0
    )
    assert sharpener.neurons is None


def test_epochs_that_are_not_validated_are_no_candidates():
    sharpener = AutoSharpener()
    history = fit(classifier(1.0), sharpener, epochs=11, validation_freq=2)
    assert sharpener.best_epoch % 2 == 1
    assert sharpener.best["val_accuracy"] == max(history["val_accuracy"][2:])


def test_too_few_epochs_are_refused_before_the_first_one_saying_how_many_it_takes():
    watch = Interrupt()
    with pytest.raises(DataError, match=r"leaves 2 epochs to sharpen 2 layers, .* at least 3: give epochs=3 or"):
        fit(classifier(), watch, AutoSharpener(), epochs=2)
    with pytest.raises(DataError, match=r"give epochs=8"):
        fit(classifier(), watch, AutoSharpener(), epochs=7, initial_epoch=5)
    assert fit(classifier(), AutoSharpener(), epochs=3)["sharpness"] == [0.0, 0.5, 1.0]


def test_training_that_somebody_else_stops_warns_and_says_how_much_is_missing():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 1

    sharpener = AutoSharpener()
    with pytest.warns(UserWarning, match=r"low is at 0, high is at 0\); the network needs at least 3 more epochs"):
        fit(classifier(), sharpener, Stop())
    assert sharpener.best_epoch is None
    assert not sharpener.finished
    assert sharpener.summary.startswith("not fully sharpened after 2 epochs")


def test_figure_that_is_not_logged_is_refused_in_the_first_epoch():
    with pytest.raises(DataError, match=r"goes by 'f2', which this training does not log; it logs accuracy, loss"):
        fit(classifier(), AutoSharpener(monitor="f2"))
    with pytest.raises(DataError, match="mode of AutoSharpener"):
        AutoSharpener(mode="up")


def test_constant_learning_rate_falls_twice_in_the_sharp_phase_and_is_put_back():
    def rates(*callbacks, anneal=True, surrogate=1.0):
        model, seen = classifier(surrogate), []
        note = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: seen.append(float(model.optimizer.learning_rate))
        )
        fit(model, AutoSharpener(anneal=anneal), note, *callbacks, epochs=14)
        return seen, float(model.optimizer.learning_rate)

    seen, left = rates()
    assert seen[0] == left == pytest.approx(0.01)
    assert sorted(set(np.round(seen, 6)), reverse=True) == [0.01, 0.002, 0.0004]
    assert seen[-1] == pytest.approx(0.0004)
    assert set(rates(anneal=False)[0]) == set(rates(surrogate=0.0)[0]) == {seen[0]}
    by_hand = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 if epoch < 2 else 0.005)
    assert min(rates(by_hand)[0]) == pytest.approx(0.005)


def test_falling_learning_rate_is_waited_for():
    falling = keras.optimizers.schedules.ExponentialDecay(0.01, 2, 0.8)
    sharpener = AutoSharpener()
    history = fit(classifier(1.0, keras.optimizers.Adam(falling)), sharpener, epochs=16)
    assert len(history["loss"]) == 16
    assert not sharpener.finished


def test_model_that_arrives_sharp_is_trained_sharp():
    model = classifier(1.0)
    set_sharpness(model, 1.0)
    assert set(fit(model, AutoSharpener(), epochs=3)["sharpness"]) == {1.0}


def test_training_cut_off_while_sharpening_goes_on_behind_the_last_finished_epoch(tmp_path):
    first, watch = AutoSharpener(tmp_path), Interrupt(at=6)
    with pytest.raises(KeyboardInterrupt):
        fit(classifier(), first, watch)
    assert watch.epochs == list(range(7))
    assert 0 < sum(first.sharpness.values()) < 2
    steps = 6 * 2  # whole epochs that were saved

    again, watch, model = AutoSharpener(tmp_path), Interrupt(), classifier()
    at_start = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: started.append(int(model.optimizer.iterations))
    )
    started = []
    history = fit(model, again, watch, at_start)
    assert watch.epochs[0] == 6
    assert started[0] == steps
    assert [record["epoch"] for record in again.records] == list(range(watch.epochs[-1] + 1))
    assert [record["sharpness"] for record in again.records[6:]] == history["sharpness"]
    trace = [record["sharpness"] for record in again.records]
    assert trace == sorted(trace)
    assert trace[-1] == 1.0
    assert get_sharpness(model) == {"low": 1.0, "high": 1.0}
    assert model.evaluate(X, Y, verbose=0)[1] == pytest.approx(again.best["val_accuracy"])


def test_training_cut_off_when_sharp_remembers_the_best_epoch_of_before(tmp_path):
    class Praise(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["figure"] = -epoch

    first = AutoSharpener(tmp_path, monitor="figure", mode="max")
    with pytest.raises(KeyboardInterrupt):
        fit(classifier(1.0), Praise(), first, Interrupt(at=12))
    assert first.best_epoch < 11
    weights = first._best_weights

    again, model = AutoSharpener(tmp_path, monitor="figure", mode="max"), classifier(1.0)
    fit(model, Praise(), again)
    assert again.best_epoch == first.best_epoch
    for mine, theirs in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_finished_training_is_not_repeated(tmp_path):
    sharpener, model = AutoSharpener(tmp_path), classifier(1.0)
    fit(model, sharpener, epochs=60)
    assert sharpener.finished
    watch, other, again = Interrupt(), classifier(1.0), AutoSharpener(tmp_path)
    fit(other, again, watch, epochs=60)
    assert watch.epochs == []
    assert again.summary.splitlines()[0] == sharpener.summary.splitlines()[0]
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert len(fit(other, epochs=2)["loss"]) == 2  # and the next training without it begins at 0


def test_checkpoint_holds_no_more_than_the_last_and_the_best_epoch(tmp_path):
    sharpener = AutoSharpener(tmp_path)
    fit(classifier(1.0), sharpener, epochs=12)
    kept = {f"epoch-{epoch:05d}.weights.h5" for epoch in (11, sharpener.best_epoch)}
    assert {path.name for path in tmp_path.iterdir()} == {"state.json", *kept}


def test_checkpoint_of_another_model_or_a_damaged_one_is_refused(tmp_path):
    fit(classifier(), AutoSharpener(tmp_path), epochs=3)
    single = keras.Sequential([keras.Input((6,)), kl.Dense(3, activation=SpikingBReLU(name="one"))])
    single.compile("adam", "mse")
    with pytest.raises(ModelFileError, match="spiking layers low, high, and this one has one"):
        fit(single, AutoSharpener(tmp_path), epochs=6)
    renamed = fit(classifier(names=("a", "b")), AutoSharpener(tmp_path), epochs=4)
    assert renamed["sharpness_a"] == [1.0]
    with pytest.raises(ModelFileError, match="does not fit this model"):
        fit(classifier(width=13), AutoSharpener(tmp_path), epochs=6)
    state = tmp_path / "state.json"
    whole = json.loads(state.read_text())
    for text, match in [
        ("{", "cannot be read"),
        ("[]", "no checkpoint of this version"),
        (json.dumps({**whole, "format": 99}), "no checkpoint of this version"),
        (json.dumps({name: value for name, value in whole.items() if name != "course"}), "incomplete"),
    ]:
        state.write_text(text)
        with pytest.raises(ModelFileError, match=match):
            fit(classifier(), AutoSharpener(tmp_path), epochs=6)


SCRIPT = textwrap.dedent(
    """
    import os, signal, sys
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", TF_NUM_INTRAOP_THREADS="1")
    import keras
    from test_keras_auto import AutoSharpener, classifier, fit

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            if self.epoch == 6 and batch == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    fit(classifier(), AutoSharpener(sys.argv[1]), Kill())
    """
)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_process_that_is_killed_while_sharpening_goes_on_where_it_stopped(tmp_path):
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "run"], cwd=__file__.rpartition("/")[0], capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    sharpener, watch, model = AutoSharpener(tmp_path / "run"), Interrupt(), classifier()
    fit(model, sharpener, watch)
    assert watch.epochs[0] == 6
    trace = [record["sharpness"] for record in sharpener.records]
    assert 0.0 < trace[5] < 1.0
    assert trace == sorted(trace)
    assert get_sharpness(model) == {"low": 1.0, "high": 1.0}


@pytest.mark.parametrize(
    ("own", "order"),
    [(False, slice(None)), (True, slice(None, None, -1))],
    ids=["keras_alone, sharpener_first", "both, sharpener_last"],
)
def test_goes_on_with_the_backup_of_keras(tmp_path, own, order):
    def callbacks():
        sharpener = AutoSharpener(tmp_path / "own" if own else None)
        return sharpener, [sharpener, keras.callbacks.BackupAndRestore(tmp_path / "keras")][order]

    first, pair = callbacks()
    with pytest.raises(KeyboardInterrupt):
        fit(classifier(), *pair, Interrupt(at=6))
    assert 0 < sum(first.sharpness.values()) < 2
    (again, pair), watch, model = callbacks(), Interrupt(), classifier()
    history = fit(model, *pair, watch)
    assert watch.epochs[0] == 6
    assert history["sharpness"][0] > 0
    assert history["sharpness"] == sorted(history["sharpness"])
    assert get_sharpness(model) == {"low": 1.0, "high": 1.0}
    assert len(again.records) == len(history["loss"]) + (6 if own else 0)


def test_goes_on_from_a_saved_model(tmp_path):
    saved = tmp_path / "model.keras"
    with pytest.raises(KeyboardInterrupt):
        fit(classifier(), AutoSharpener(), keras.callbacks.ModelCheckpoint(saved), Interrupt(at=6))
    model = keras.saving.load_model(saved)
    model.compile(model.optimizer, model.loss, metrics=["accuracy"], run_eagerly=True)
    before = sum(get_sharpness(model).values())
    assert 0 < before < 2
    history = fit(model, AutoSharpener(), initial_epoch=6)
    assert history["sharpness"][0] > before / 2
    assert get_sharpness(model) == {"low": 1.0, "high": 1.0}


def test_loss_that_is_no_number_neither_ends_in_an_error_nor_counts_as_good():
    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 8:
                logs["val_accuracy"] = logs["val_loss"] = math.nan

    sharpener = AutoSharpener()
    with warnings.catch_warnings():
        fit(classifier(1.0), Break(), sharpener, epochs=12)
    assert sharpener.best_epoch != 8
    assert math.isfinite(sharpener.best["val_loss"])
