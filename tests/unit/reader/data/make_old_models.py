"""Write a small spiking network, and what it computes, with an old Keras; `old_models.zip` was made by it.

    python make_old_models.py NAME FOLDER

under Python 3.7 with Keras 2.2.4 on TensorFlow 1.15.5, under Python 3.8 with TensorFlow 2.3.4 and 2.13.1. It needs
no strop: the three spiking layers are written out as ports of Whetstone to those versions had them.
"""

import os
import sys

import numpy as np

try:
    import keras

    standalone = keras.__version__.startswith("2.2.")
except ImportError:
    standalone = False
if not standalone:
    from tensorflow import keras
K, layers = keras.backend, keras.layers


class Spiking(layers.Layer):
    threshold = 0.5

    def __init__(self, sharpness=1.0, **options):
        super().__init__(**options)
        self.sharpness = K.variable(sharpness)

    def get_config(self):
        return dict(super().get_config(), sharpness=float(K.get_value(self.sharpness)))

    def call(self, x):
        return K.cast(K.greater_equal(x, self.threshold), "float32")


class Spiking_BRelu(Spiking):
    pass


class Spiking_Sigmoid(Spiking):
    threshold = 0.0


class Softmax_Decode(layers.Layer):
    def __init__(self, key, **options):
        super().__init__(**options)
        self.key = np.asarray(key)
        self._rescaled_key = K.variable(2 * self.key.T - 1)

    def get_config(self):
        return dict(super().get_config(), key=self.key if standalone else self.key.tolist())

    def compute_output_shape(self, shape):
        return shape[0], self.key.shape[0]

    def call(self, x):
        return K.softmax(K.dot(2 * x - 1, self._rescaled_key))


def network(rng):
    """Shared layers, skips, padding on one side, a nested functional and a nested Sequential model."""
    image = layers.Input((9, 9, 2), name="image")
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = Spiking_BRelu(name="spikes")(x)
    pool = layers.MaxPooling2D(2, name="pool")(x)
    y = layers.ZeroPadding2D(((1, 0), (0, 1)), name="pad")(pool)
    y = Spiking_Sigmoid(name="depth_spikes")(layers.DepthwiseConv2D(2, name="depth")(y))
    shared, shared_spikes = layers.Dense(4, name="shared"), Spiking_BRelu(name="shared_spikes")
    u, v = shared_spikes(shared(pool)), shared_spikes(shared(y))
    joined = layers.Concatenate(name="join")([layers.Add(name="sum")([u, v]), u])
    start = layers.Input((4, 4, 8), name="inner_in")
    z = layers.BatchNormalization(name="inner_norm")(layers.Conv2D(3, 2, strides=2, name="inner_conv")(start))
    inner = keras.models.Model(start, Spiking_BRelu(name="inner_spikes")(z), name="inner")
    tail = keras.models.Sequential(name="tail")
    tail.add(layers.Dense(10, input_shape=(12,), kernel_regularizer="l2", name="tail_first"))
    tail.add(layers.LeakyReLU(0.25, name="tail_leak"))
    tail.add(layers.Dropout(0.3, name="tail_dropout"))
    tail.add(layers.Dense(16, name="tail_last"))
    out = Spiking_BRelu(name="out_spikes")(tail(layers.Flatten(name="flat")(inner(joined))))
    key = (rng.rand(4, 16) < 0.4).astype(float)
    model = keras.models.Model(image, Softmax_Decode(key, name="decode")(out), name="net")
    for layer in [*model.layers, *inner.layers, *tail.layers]:
        if hasattr(layer, "layers") or isinstance(layer, (Spiking, Softmax_Decode)):
            continue
        weights = [rng.normal(0, 0.8, weight.shape) for weight in layer.get_weights()]
        if isinstance(layer, layers.BatchNormalization):
            weights[-1] = np.abs(weights[-1]) + 0.5
        layer.set_weights(weights)
    return model


if __name__ == "__main__":
    name, folder = sys.argv[1:]
    os.makedirs(folder, exist_ok=True)
    rng = np.random.RandomState(5)
    model = network(rng)
    names = ["conv", "norm", "spikes", "depth_spikes", "sum", "flat", "out_spikes", "decode"]
    frames = rng.uniform(-1, 1, (6, 9, 9, 2)).astype(np.float32)
    inside = keras.models.Model(model.inputs, [model.get_layer(n).output for n in names])
    results = dict(zip(names, inside.predict(frames)))  # noqa: B905  # Python 3.7 has no strict zip
    np.savez_compressed(os.path.join(folder, name + ".npz"), frames=frames, **results)
    model.save(os.path.join(folder, name + ".h5"))
    if not standalone:
        model.save(os.path.join(folder, name), save_format="tf")
        if "2_13" in name:
            model.save(os.path.join(folder, name + ".keras"))
