"""Write small quantised networks, and what they compute, with the real QKeras; `qkeras_models.zip` was made by it.

    python make_qkeras_models.py FOLDER

under Python 3.10 with qkeras 0.9.0 on TensorFlow 2.15.1. It needs no strop. Of the SavedModel the traced functions
(`saved_model.pb`), which strop does not look at, are left out of the archive.
"""

import os
import sys
import zipfile

import numpy as np
import tensorflow as tf
from qkeras import QActivation, QConv1D, QConv2D, QDense, QDepthwiseConv2D, binary, quantized_bits, ternary

L = tf.keras.layers


def network():
    """Quantisers of kernels and biases of every kind, and all activations that are signs."""
    return tf.keras.Sequential(
        [
            QConv2D(
                4,
                3,
                kernel_quantizer=quantized_bits(4, 0, 1, alpha=1),
                bias_quantizer=quantized_bits(4, 1),
                input_shape=(9, 9, 2),
                name="bits",
            ),
            L.BatchNormalization(name="norm"),
            QActivation("binary(alpha=1)", name="signs"),
            QDepthwiseConv2D(2, depthwise_quantizer=ternary(), name="ternary"),
            QActivation(binary(use_01=True), name="ones"),
            QConv2D(6, 2, strides=2, kernel_quantizer=binary(), name="binary"),
            QActivation("quantized_bits(1,0,1)", name="one_bit"),
            L.Flatten(name="flat"),
            QDense(12, kernel_quantizer=quantized_bits(4), activation=binary(alpha=0.5), name="halves"),
            QDense(
                12,
                kernel_quantizer=ternary(alpha="auto"),
                bias_quantizer="quantized_bits(4)",
                activation=binary(),
                name="automatic",
            ),
            L.Reshape((4, 3), name="rows"),
            QConv1D(6, 2, kernel_quantizer=quantized_bits(3, alpha="auto"), activation="binary", name="row_bits"),
            L.Flatten(name="flat_rows"),
            QDense(12, kernel_quantizer=ternary(alpha=1, threshold=0.4), activation="binary(1,1)", name="threshold"),
            QDense(10, kernel_quantizer="binary(alpha=1)", name="last"),
            L.Activation("softmax", name="softmax"),
        ],
        name="network",
    )


if __name__ == "__main__":
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    rng = np.random.RandomState(6)
    model = network()
    for layer in model.layers:
        values = [rng.normal(0, 0.4, weight.shape) for weight in layer.get_weights()]
        if isinstance(layer, L.BatchNormalization):
            values[-1] = np.abs(values[-1]) + 0.5
        layer.set_weights(values)
    frames = rng.randint(0, 9, (40, 9, 9, 2)).astype(np.float32) / 8
    shown = [layer for layer in model.layers if "flat" not in layer.name and layer.name not in ("last", "rows")]
    outputs = tf.keras.Model(model.inputs, [layer.output for layer in shown]).predict(frames, verbose=0)
    found = dict(zip([layer.name for layer in shown], outputs))  # noqa: B905
    np.savez_compressed(os.path.join(folder, "network.npz"), frames=frames, **found)
    model.save(os.path.join(folder, "network.h5"))
    model.save(os.path.join(folder, "network.keras"))
    model.save(os.path.join(folder, "network"), save_format="tf")
    with zipfile.ZipFile(os.path.join(folder, "qkeras_models.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for parent, _, files in sorted(os.walk(folder)):
            for file in sorted(files):
                if file not in ("saved_model.pb", "fingerprint.pb", "qkeras_models.zip"):
                    path = os.path.join(parent, file)
                    archive.write(path, os.path.relpath(path, folder))
