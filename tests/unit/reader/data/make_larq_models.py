"""Write small binarised networks, and what they compute, with the real Larq; `larq_models.zip` was made by it.

    python make_larq_models.py FOLDER

under Python 3.10 with larq 0.14.0 on TensorFlow 2.15.1. It needs no strop. Of the SavedModel the traced functions
(`saved_model.pb`), which strop does not look at, are left out of the archive.
"""

import os
import sys
import zipfile

import larq as lq
import numpy as np
import tensorflow as tf

L, Q, quantizers = tf.keras.layers, lq.layers, lq.quantizers
CLIPPED = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}


def sequential():
    """Every kind of kernel, input and activation quantiser, and padding with ones."""
    return tf.keras.Sequential(
        [
            Q.QuantConv2D(4, 3, use_bias=False, input_shape=(9, 9, 1), name="first", **CLIPPED),
            L.BatchNormalization(momentum=0.999, scale=False, name="norm"),
            Q.QuantConv2D(
                4,
                3,
                padding="same",
                pad_values=1.0,
                input_quantizer="ste_sign",
                use_bias=False,
                name="padded",
                **CLIPPED,
            ),
            L.MaxPool2D(2, name="pool"),
            L.BatchNormalization(momentum=0.9, center=False, name="norm_of_pool"),
            L.Activation(quantizers.SteSign(), name="signs"),
            Q.QuantDepthwiseConv2D(
                2, input_quantizer="approx_sign", depthwise_quantizer=quantizers.SteTern(0.3), name="depthwise"
            ),
            Q.QuantSeparableConv2D(
                6,
                2,
                padding="same",
                strides=2,
                pad_values=-1.0,
                input_quantizer="swish_sign",
                depthwise_quantizer="ste_sign",
                pointwise_quantizer="magnitude_aware_sign",
                name="separable",
            ),
            quantizers.SteHeaviside(name="bits"),
            L.Flatten(name="flat"),
            Q.QuantDense(
                12,
                input_quantizer="ste_heaviside",
                kernel_quantizer=quantizers.DoReFa(2, mode="weights"),
                activation=quantizers.SteHeaviside(),
                name="hidden",
            ),
            Q.QuantDense(10, kernel_quantizer=quantizers.SteTern(ternary_weight_networks=True), name="last"),
            L.Activation("softmax", name="softmax"),
        ],
        name="sequential",
    )


def functional():
    """A skip connection between quantised convolutions, one of them shared, and one-dimensional frames."""
    frames = L.Input((12, 3), name="frames")
    x = Q.QuantConv1D(8, 3, name="first", **CLIPPED)(frames)
    x = L.BatchNormalization(name="norm")(x)
    shared = Q.QuantConv1D(
        8, 3, padding="same", pad_values=1.0, input_quantizer="ste_sign", use_bias=False, name="shared", **CLIPPED
    )
    y = L.Add(name="skip")([shared(shared(x)), quantizers.SteSign(name="signs")(x)])
    y = L.GlobalAveragePooling1D(name="mean")(quantizers.NoOp(precision=1, name="nothing")(quantizers.SteSign()(y)))
    return tf.keras.Model(frames, Q.QuantDense(5, kernel_quantizer="approx_sign", name="last")(y), name="functional")


def refused():
    """An input quantiser whose values are not two."""
    return tf.keras.Sequential(
        [Q.QuantDense(3, input_quantizer="magnitude_aware_sign", input_shape=(4,), name="not_two_valued")]
    )


def randomise(model, rng):
    """Latent weights of both signs, zeros among them, and statistics that make both signs likely behind them."""
    for layer in model.layers:
        values = [np.round(rng.normal(0, 0.5, weight.shape) * 16) / 16 for weight in layer.get_weights()]
        if isinstance(layer, L.BatchNormalization):
            values[-1] = np.abs(values[-1]) + 0.5
        layer.set_weights(values)


def write(name, model, folder, rng):
    randomise(model, rng)
    frames = rng.randint(0, 9, (40, *model.input_shape[1:])).astype(np.float32) / 8
    inner = tf.keras.Model(model.inputs, [layer.output for layer in model.layers if layer.name in NAMES[name]])
    outputs = inner.predict(frames, verbose=0)
    found = dict(zip([layer.name for layer in model.layers if layer.name in NAMES[name]], outputs))  # noqa: B905
    np.savez_compressed(os.path.join(folder, name + ".npz"), frames=frames, **found)
    model.save(os.path.join(folder, name + ".h5"))
    model.save(os.path.join(folder, name + ".keras"))
    model.save(os.path.join(folder, name), save_format="tf")


NAMES = {
    "sequential": ("first", "norm", "padded", "pool", "signs", "depthwise", "separable", "bits", "hidden", "softmax"),
    "functional": ("first", "norm", "skip", "mean", "last"),
}

if __name__ == "__main__":
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    rng = np.random.RandomState(8)
    write("sequential", sequential(), folder, rng)
    write("functional", functional(), folder, rng)
    refused().save(os.path.join(folder, "refused.h5"))
    with zipfile.ZipFile(os.path.join(folder, "larq_models.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for parent, _, files in sorted(os.walk(folder)):
            for file in sorted(files):
                if file not in ("saved_model.pb", "fingerprint.pb", "larq_models.zip"):
                    path = os.path.join(parent, file)
                    archive.write(path, os.path.relpath(path, folder))
