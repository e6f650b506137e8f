"""The page of a training shows what Keras's own history holds, whatever the model."""

from __future__ import annotations

from html import unescape
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="trainings need Keras")

from strop.display import write_training_page  # noqa: E402
from strop.keras import SharpeningLogger, SimpleSharpener, SpikingBReLU, neuron_report  # noqa: E402


def test_a_users_own_training_becomes_a_page(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).random((64, 6)).astype("float32")
    y = (x.sum(axis=1) > 3).astype("int64")
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(12),
            SpikingBReLU(name="inner"),
            keras.layers.Dense(8),
            SpikingBReLU(name="outer"),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    logger = SharpeningLogger(tmp_path / "log.jsonl", (x, y))
    history = model.fit(
        x, y, epochs=6, validation_data=(x, y), callbacks=[SimpleSharpener(1, steps=2), logger], verbose=0
    )
    page = write_training_page(history, tmp_path, title="mine", units=neuron_report(model, x)).read_text(
        encoding="utf-8"
    )
    assert history.history["sharpness_inner"][-1] == 1.0
    for name in ("loss", "val_loss", "accuracy", "val_accuracy", "sharpened_accuracy", "sharpness_inner"):
        assert f">{name.replace('_', '_<wbr>')}</th>" in page or f">{name}</th>" in page
        assert f"<td>{history.history[name][-1]:.4g}</td>" in page
    assert "2 of 2" in page
    told = unescape(page)
    final = history.history["sharpened_accuracy"][-1]
    assert f"validation, as if sharpened ends at {100 * final:.2f} %" in told
    assert "inner ends at 1; outer ends at 1" in told
    assert "<td>12</td>" in page
