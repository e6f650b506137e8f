# A notebook in the percent format; docs/render_tutorial.py turns it into docs/tutorial.md.
# ruff: noqa: E402, D100

# %% [markdown]
# # Tutorial: from a Keras network to verified spikes
#
# You know Keras. You need to know nothing of spiking networks: each of their words is explained where it first appears.
# This page takes an untrained Keras model to three simulators of spiking networks (Brian2, Nengo and NEST), shows what
# happens inside, and proves that every single spike is right. It takes a minute or two on a laptop and downloads
# nothing.
#
# ```sh
# pip install 'strop[all]'     # in a folder with the source: pip install '.[all]'
# ```
#
# [Installing](install.md) says what that brings, and what to do where something is missing. The page is a notebook: its
# source is [tutorial.py](tutorial.py), which Jupyter (with jupytext), VS Code and PyCharm open as one. All that is
# printed and drawn below comes from running it.
#
# Your figures will differ a little: processors add up in different orders, and training magnifies that. On one machine,
# with four settings of TensorFlow's arithmetic (oneDNN off, AVX2, SSE4.1 on one thread, and its own choice), the test
# accuracy came out between 95.6 and 97.2 %, and spikes and dead neurons with it. What does not differ is what this page
# is about: every spike of a trained network is the same in Keras and in each simulator.

# %%
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # TensorFlow's start-up messages

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import strop
from strop.keras import AutoSharpener, SoftmaxDecode, SpikingBReLU, key_generator

keras.utils.set_random_seed(0)

# %% [markdown]
# ## 1. Data and an ordinary model
#
# scikit-learn ships 1,797 handwritten digits of 8 x 8 pixels with 17 levels of grey. 360 are kept for the test and 144
# for validation. Each of the others is shifted by a pixel in the four directions, to have five times as many to train
# on.

# %%
digits = load_digits()
images = (digits.images / 16).astype("float32")[..., np.newaxis]  # (1797, 8, 8, 1), in [0, 1]
x_rest, x_test, y_rest, y_test = train_test_split(
    images, digits.target, test_size=360, random_state=0, stratify=digits.target
)
x_train, x_val, y_train, y_val = train_test_split(x_rest, y_rest, test_size=144, random_state=0, stratify=y_rest)

padded = np.pad(x_train, ((0, 0), (1, 1), (1, 1), (0, 0)))
shifts = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
x_train = np.concatenate([padded[:, 1 + down : 9 + down, 1 + right : 9 + right] for down, right in shifts])
y_train = np.tile(y_train, len(shifts))
print(f"{len(x_train)} images to train on, {len(x_val)} to validate with, {len(x_test)} to test on")

# %% [markdown]
# The model is a small convolutional network. Two things in it are not Keras's own:
#
# * `SpikingBReLU`, the activation. At first it is the bounded ReLU, `clip(x, 0, 1)`: smooth enough to train. Later it
#   becomes a **threshold**: 1 where `x >= 0.5`, else 0. A unit of Keras with such an activation says only yes or no. In
#   the language of spiking networks it is a **neuron**, its sum `x` is its **potential**, and its yes is a **spike**.
# * `SoftmaxDecode`, the last layer. With only yes and no, one neuron for each class would be fragile. So 200 neurons
#   vote, and a fixed random **key** says which 60 of them stand for which class. The class whose neurons agree best
#   wins. This is called an *n-hot* code; the layer has nothing to train.

# %%
layers = keras.layers
key = key_generator(num_classes=10, width=200, seed=0, sparsity=0.3)  # 10 rows, 60 ones in each

model = keras.Sequential(
    [
        keras.Input((8, 8, 1), name="image"),
        layers.Conv2D(32, 3, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        SpikingBReLU(name="edges"),
        layers.MaxPooling2D(name="pool"),
        layers.Flatten(),
        layers.Dropout(0.2),
        layers.Dense(256, use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        SpikingBReLU(name="hidden"),
        layers.Dense(200, use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        SpikingBReLU(name="votes"),
        layers.Dropout(0.2),
        SoftmaxDecode(key),
    ],
    name="digits",
)
model.compile(keras.optimizers.Adadelta(4.0), "sparse_categorical_crossentropy", metrics=["accuracy"])

# %% [markdown]
# `momentum=0.9` lets the statistics of batch normalisation follow within an epoch when a layer below it changes.
# Adadelta with the large rate of 4 is what the authors of the method used. Plain Adam loses more accuracy on the way;
# with surrogate gradients it is the better choice, see [Training](training.md).
#
# strop carries only networks over that consist of spikes. This one does not yet, and strop says so rather than
# approximate it:

# %%
try:
    strop.lower(model)
except strop.StropError as error:
    print(error)

# %% [markdown]
# ## 2. Train, and sharpen on the way
#
# A threshold has no gradient to learn by. The Whetstone method ([Severa et al., 2019](cite.md)) gets there in small
# steps: the ramp of the activation becomes steeper and steeper while the network goes on learning, one layer after the
# other, beginning at the input. How far a layer has come is its **sharpness**, from 0 (bounded ReLU) to 1 (threshold).

# %% figure="tutorial-ramp" alt="The activation at sharpness 0, 0.5, 0.75 and 1: the ramp becomes a step at 0.5"
import matplotlib.pyplot as plt

BLUE, ORANGE, GREEN, RED, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
plt.rcParams.update({"font.size": 12, "axes.spines.top": False, "axes.spines.right": False})
plt.rcParams.update({"figure.figsize": (6, 3.4), "figure.constrained_layout.use": True, "savefig.dpi": 144})

x = np.linspace(-0.25, 1.25, 1201, dtype="float32")
for sharpness, colour in [(0.0, SKY), (0.5, GREEN), (0.75, ORANGE), (1.0, RED)]:
    plt.plot(x, np.asarray(SpikingBReLU(sharpness)(x)), color=colour, linewidth=2.5, label=f"sharpness {sharpness:g}")
plt.xlabel("potential (what the layer below sums up)")
plt.ylabel("activation")
plt.legend(frameon=False)

# %% [markdown]
# A sharpener is a Keras callback. This one needs no settings: it waits until the validation loss no longer falls,
# sharpens layer by layer as fast as the network can follow, trains on for a while when all layers are sharp, and brings
# back the best weights of that time. `epochs` is only the limit.

# %%
sharpener = AutoSharpener()
history = model.fit(
    x_train,
    y_train,
    batch_size=64,
    epochs=20,
    validation_data=(x_val, y_val),
    callbacks=[sharpener],
    verbose=0,
).history
print(sharpener.summary)
print(f"test accuracy: {model.evaluate(x_test, y_test, verbose=0)[1]:.1%}")
print({layer.name: layer.sharpness for layer in model.layers if isinstance(layer, SpikingBReLU)})

# %% figure="tutorial-training" alt="Validation accuracy and the sharpness of the three layers, epoch by epoch"
figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(6, 4.6))
epochs = np.arange(len(history["accuracy"]))  # counted from 0, as Keras does
above.plot(epochs, 100 * np.array(history["val_accuracy"]), color="black", marker="o", markersize=4)
above.set_ylabel("validation\naccuracy, %")
for name, colour, style in [("edges", BLUE, "-"), ("hidden", ORANGE, "--"), ("votes", GREEN, "-.")]:
    below.plot(epochs, history[f"sharpness_{name}"], style, color=colour, linewidth=2.5, label=name)
below.set_ylabel("sharpness")
below.set_xticks(range(0, len(epochs), 2))
below.set_xlabel("epoch")
below.legend(frameon=False)

# %% [markdown]
# The accuracy dips when a layer changes, and comes back while the rest of the network adapts. A *dead* neuron in the
# summary never spiked on the validation images, a *stuck* one always did. Single dead ones in `edges` are no reason to
# worry: at the border of these images there is little ink, and no whole filter is dead. [Training](training.md) has
# more on all of this.
#
# From here on nothing is trained any more. `model.save("digits.keras")` would keep the network, and `strop.load_model`
# open it again.
#
# ## 3. Lower it: a graph of spiking neurons

# %%
graph = strop.lower(model)
print(strop.inspect(graph))

# %% [markdown]
# `strop.lower` turns the layers into **populations** (groups of neurons) and **projections** (all connections from one
# population to the next). A single connection is a **synapse**, with a weight. An image, or whatever else enters in one
# step, is called a **frame**.
#
# The rows of the table:
#
# * `edges`: 8 x 8 x 32 neurons, from the convolution *and* the batch normalisation behind it: its factors went into the
#   weights, its offsets into a bias for each neuron.
# * `pool`: the largest of four values that are 0 or 1 is 1 as soon as one of them is: an OR. So max pooling becomes
#   neurons that spike as soon as one spike arrives: weights 1, threshold 0.5.
# * `hidden` and `votes`: dense layers. `Flatten` became an index map within the projection (`Select`), and takes
#   neither neurons nor time.
# * `Dropout` is gone: it does nothing outside training. `SoftmaxDecode` is the **read-out**, calculated outside the
#   simulator from the spikes of `votes`.
#
# Its columns:
#
# * `synapses` are counted one by one. `fan-in` is the most that end at one neuron, `fan-out` the most that start there.
#   A neuron at the border of the image has fewer than the nine of the kernel, hence the mean of 7.6.
# * `stored`: the numbers that the graph keeps for them. The kernel stays a kernel of 288 values until a simulator asks
#   for its 15,488 synapses.
# * `depth`: how many **time steps** after the image a population answers. A spike takes one step over a synapse.
# * `fed by`: where the synapses come from, and which kind of operator they are.
#
# And the lines below:
#
# * `(host)` behind the input is the **encoding**: pixels are shades of grey, not spikes. By default the first layer is
#   calculated on the host (the computer that feeds the simulator), and its spikes are the simulator's input. [Other
#   encodings](encodings.md) turn the pixels themselves into spikes. `(key)` says that the read-out is an n-hot code.
# * The totals, and the memory that they take.
# * What the same network costs without spikes, as dense arithmetic, and which part of it stays on the host. Given
#   frames, `strop.inspect` also counts spikes ([Costs](costs.md)).
#
# ## 4. Run it on three simulators
#
# A simulator of spiking networks steps through time; in each step it delivers spikes over synapses, adds their weights
# up to potentials, and lets every neuron spike that has reached its threshold. The usual **integrate-and-fire** neuron
# keeps what it has gathered until it fires. Ours needs a single step: what it gathered is compared with the threshold,
# then forgotten, fired or not. Each [backend](backends.md) of strop sets its simulator up so that exactly this happens.

# %%
runs = {
    "brian2": strop.simulate(graph, x_test[:100], "brian2", target="numpy"),  # target: see below
    "nengo": strop.simulate(graph, x_test[:100], "nengo"),
    "pynn-nest": strop.simulate(graph, x_test[:100], "pynn-nest"),
}
for name, result in runs.items():
    count = {population: int(spikes.sum()) for population, spikes in result.spikes.items()}
    print(f"{name:10} right: {(result.classes == y_test[:100]).mean():.0%}  spikes: {count}")

# %% [markdown]
# `result.spikes["hidden"]` is an array of True and False, one row per image and one column per neuron; `result.classes`
# is the decision. `target="numpy"` makes Brian2 run without a compiler. Leave it out where you have one: then Brian2
# compiles for half a minute, once, and is many times faster from then on.
#
# The counts are the same on all three. Whether they are the same *spikes* is what section 6 is about.
#
# ## 5. Watch the wave
#
# `strop.build` hands out the simulator's own objects, here a `brian2.Network`, to use in a script of your own. A
# `SpikeMonitor` is Brian2's way of recording spikes. We present eight images, **one per time step**, and draw
# spikes as dashes in the colour of their image. Such a picture is called a **raster**. So that it stays light, no more
# than 256 neurons of each population are drawn.

# %%
import brian2

network = strop.build(graph, "brian2", target="numpy")
brian2.prefs.codegen.target = "numpy"  # for the monitors, too
monitors = {name: brian2.SpikeMonitor(population) for name, population in network.populations.items()}
network.add(*monitors.values())
network.present(x_test[:8])
network.run(network.duration(x_test[:8]), namespace={})  # {}: Brian2 need not look at our variables

steps = {name: np.round(monitor.t / network.strop_clock.dt).astype(int) for name, monitor in monitors.items()}
for name in graph.population_names:
    print(f"{name:7} answers image n in step n + {graph.depth(name)}")

# %% figure="tutorial-wave" alt="Raster of four populations: the spikes of each image move down one layer per time step"
figure, axes = plt.subplots(4, 1, sharex=True, figsize=(6, 6.4), height_ratios=[3, 2, 2, 2])
colours = np.array([BLUE, ORANGE, GREEN, PURPLE] * 2 + ["#BBBBBB"])  # grey: a step in which no image is there
for axis, name in zip(axes, graph.population_names, strict=True):
    image = steps[name] - graph.depth(name)
    image[(image < 0) | (image >= 8)] = 8
    neurons = np.asarray(monitors[name].i)
    size = network.populations[name].N
    some = neurons % max(1, size // 256) == 0  # no more than 256 neurons of each population
    for number in range(9):
        chosen = some & (image == number)
        dashes = steps[name][chosen][:, np.newaxis] + [-0.35, 0.35, np.nan]
        axis.plot(dashes.ravel(), np.repeat(neurons[chosen], 3), color=colours[number], linewidth=0.8)
    axis.set_ylabel(f"{name}\n(neuron)")
    axis.set_ylim(-0.05 * size, 1.05 * size)
axes[-1].set_xticks(range(12))
axes[-1].set_xlabel("time step")
for number in range(8):
    axes[0].text(number + 1, 2200, f"{y_test[number]}", ha="center", color=colours[number], weight="bold")
figure.suptitle("the digit in each image, and its spikes", fontsize=12)

# %% [markdown]
# Each image is a **wave** that moves down by one population per step. While the first image is in `votes`, the second
# is in `hidden`, the third in `pool`. They do not disturb each other, because no neuron remembers anything: this is
# what makes a new image in every step possible. The grey dashes belong to no image: some neurons have a bias that
# reaches the threshold all by itself, so they fire in every step in which nothing speaks against it. `strop.simulate`
# leaves such steps out.
#
# (Simulators count steps differently. In Nengo, where a spike can pass a connection within a step, all
# populations answer an image in the same step. The spikes are the same.)
#
# ### Inside a single neuron
#
# The potential of a neuron is its bias plus the weights of the synapses over which a spike arrived. Here is that of one
# `hidden` neuron over 24 images. Every bar begins anew at the bias: nothing is left of the step before.

# %% figure="tutorial-potential" alt="The potential of one neuron in 24 steps; it spikes where it reaches the threshold"
from strop.running.encode import as_frames, encode
from strop.running.oracle import evaluate, potential

signals = encode(graph, as_frames(graph, x_test))
spikes = evaluate(graph, signals)  # what exact arithmetic says: float64, no simulator
potentials = potential(graph, "hidden", {**signals, **spikes})  # (360, 256)

shown = slice(0, 24)
neuron = int(np.abs(spikes["hidden"][shown].mean(axis=0) - 0.4).argmin())  # one that is neither silent nor always on
bias = graph.population("hidden").bias[neuron]
threshold = graph.population("hidden").threshold[neuron]
fires = spikes["hidden"][shown, neuron]
step = np.arange(24) + graph.depth("hidden")
plt.bar(step, potentials[shown, neuron] - bias, bottom=bias, color=np.where(fires, BLUE, "#BBBBBB"), width=0.8)
plt.axhline(threshold, color=RED, linewidth=2)
plt.text(step[-1] + 1.4, threshold, " threshold", color=RED, va="center")
plt.axhline(bias, color="black", linewidth=1)
plt.text(step[-1] + 1.4, bias, " bias", va="center")
top = potentials[shown, neuron].max() + 0.5
plt.plot(step[fires], np.full(fires.sum(), top), "|", color="black", markersize=14, markeredgewidth=2.5)
plt.text(step[-1] + 1.4, top, " spikes", va="center")
plt.xlabel("time step")
plt.ylabel("potential")

# %% [markdown]
# ### From votes to a class
#
# In the last population, 60 neurons should spike for each class and the other 140 stay silent. The decoder counts for
# how many of the 200 that holds. The class with the best count wins; ties go to the lower class, as in `argmax`.

# %% figure="tutorial-decode" alt="An image, and for each class how many of the 200 voting neurons agree with its key"
figure, (left, right) = plt.subplots(1, 2, figsize=(6, 3.2), width_ratios=[1, 2])
shown = int(np.flatnonzero(runs["brian2"].classes == y_test[:100])[0])  # one that is decided rightly
left.imshow(x_test[shown, :, :, 0], cmap="gray_r")
left.set_title("the image", fontsize=12)
left.set_xticks([])
left.set_yticks([])
agreement = (spikes["votes"][shown] == (key == 1)).sum(axis=1)  # one count for each class
winner = int(agreement.argmax())
right.scatter(range(10), agreement, s=90, color=[BLUE if digit == winner else "#999999" for digit in range(10)])
right.axhline(200, color="black", linewidth=1, linestyle=":")
right.text(9.4, 197, "all 200", ha="right", va="top")
right.set_ylim(80, 205)
right.set_xticks(range(10))
right.set_xlabel("class")
right.set_ylabel("neurons that agree")

# %% [markdown]
# ## 6. Verify: is every spike the right one?
#
# `strop.verify` runs all test images through Keras, through the **oracle** (the same graph in exact order and double
# precision), and through each simulator, and compares every neuron in every image.

# %%
report = strop.verify(
    model,
    x_test,
    y_test,
    backends=["brian2", "nengo", "pynn-nest"],
    options={"brian2": {"target": "numpy"}},
)
print(report)

# %% [markdown]
# How to read it:
#
# * A row is a layer: its neurons, the spikes of an image on average, and what each comparison found. **Equal** means
#   that every neuron fired for the same images as in Keras: here more than a million yes-or-no answers for each
#   simulator.
# * A **tie** is a difference that Keras's own rounding can explain. Keras adds up in float32, in an order that it does
#   not tell. If a potential is so close to its threshold that this rounding decides, either answer is right. strop
#   calculates how large that error can be at most, neuron by neuron; what lies within is counted as a tie, and never
#   hidden.
# * Anything else is a **fault**, and one fault fails the verification.
# * The last rows are the accuracy, which is the same because the spikes are, and the speed.
# * **Not proved for all inputs** says what the table does not: that these images are equal is a fact, that all images
#   would be is a theorem for networks whose weights are whole numbers ([Quantization](quantization.md)).
#
# `report.passed` is True or False, and `report.to_dict()` holds all figures.
#
# How close do potentials come to their thresholds? The distance is called the **margin**:

# %% figure="tutorial-margins" alt="Histogram of how far potentials are from thresholds, and of the float32 bounds"
from strop.running.oracle import FLOAT32_UNIT, gamma, magnitude, terms

margins, bounds = [], []
for name in ("hidden", "votes"):
    population, sent = graph.population(name), {**signals, **spikes}
    margins.append(np.abs(potential(graph, name, sent) - population.threshold).ravel())
    size = magnitude(graph, name, sent) + np.abs(population.bias)
    bounds.append((gamma(terms(graph, name), FLOAT32_UNIT) * size).ravel())
margins, bounds = np.concatenate(margins), np.concatenate(bounds)
bins = np.logspace(-6, 1.5, 60)
plt.hist(margins, bins, color=BLUE, label="margins")
plt.hist(bounds, bins, color=ORANGE, alpha=0.8, label="what float32 may be off by")
plt.xscale("log")
plt.yscale("log")
plt.xlabel("distance of the potential from the threshold")
plt.ylabel("neurons x images")
plt.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)

# %% [markdown]
# A tie needs a margin (blue) below its own bound (orange). [What equal means](concepts.md#what-equal-means) has the
# formula.
#
# ## 7. Break it on purpose
#
# A check that cannot fail proves nothing. So let us pretend that a simulator got one threshold wrong. A backend of our
# own takes the graph and lifts the threshold of a single `hidden` neuron by 1 before it runs it:

# %%
from dataclasses import replace

from strop.running.reference import ReferenceBackend


class Careless(ReferenceBackend):
    """Runs everything rightly, but for one threshold."""

    name = "careless"

    def prepare(self, graph, **options):
        hidden = graph.population("hidden")
        thresholds = hidden.threshold.copy()
        thresholds[neuron] += 1.0
        wrong = replace(hidden, threshold=thresholds)
        populations = [wrong if population.name == "hidden" else population for population in graph.populations]
        return super().prepare(replace(graph, populations=populations), **options)


failed = strop.verify(model, x_test, y_test, backends=["reference", Careless()])
print(failed)

# %% [markdown]
# The report names the layer. `hidden` is where it happened: the neuron stayed silent in so many images in which it
# should have fired. `votes` is *equal*, and rightly so: when a simulator differs, each layer is judged by the spikes
# that it was really sent, so that one mistake shows in one place and not in everything behind it. Keras and the other
# backend are not touched. The accuracy hardly changes, if at all: a network forgives a wrong neuron, which is why
# comparing accuracies alone finds so little.

# %%
broken = failed.backends["careless"]
print(f"passed: {failed.passed}; faults: {broken.faults}, in {broken.frames_with_faults} of {failed.frames} images")

# %% [markdown]
# ## 8. Stream: N images in N + depth steps
#
# Presenting an image, waiting for the answer, and presenting the next takes `depth` steps and one more for each. With a
# new image in every step, the whole test set takes as many steps as it has images, and `depth` more for the last to get
# through.

# %%
clock = network.strop_clock
before = network.next_step
network.present(x_test)  # from the next step on
network.run(network.duration(x_test), namespace={})
used = network.next_step - before
alone = len(x_test) * (1 + graph.total_depth)
print(f"{len(x_test)} images took {used} steps; one at a time, they would have taken {alone:,}")

last = monitors["votes"]
answer = np.round(last.t / clock.dt).astype(int) - before - graph.depth("votes")
raster = np.zeros((len(x_test), 200), dtype=bool)
ours = answer >= 0  # what came before belongs to the eight images of section 5
raster[answer[ours], np.asarray(last.i)[ours]] = True
print(f"spikes of the last layer: {raster.sum()}; different from the oracle: {(raster != spikes['votes']).sum()}")

# %% [markdown]
# `strop.simulate` and `strop.verify` stream in this way by themselves.
#
# ## 9. Take it away
#
# `strop.export` writes a folder that runs where strop is not installed: weights, images, the spikes that are expected,
# and a short script in the simulator's own language that runs and compares them. To show that it needs no strop, we
# make strop impossible to import while it runs:

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

folder = strop.export(graph, "pynn", Path(tempfile.mkdtemp()) / "digits-pynn", frames=x_test[:50], labels=y_test[:50])
print("written:", ", ".join(sorted(path.name for path in folder.iterdir())))

without_strop = """
import runpy, sys
sys.modules["strop"] = None  # from now on, `import strop` fails
sys.argv = ["run.py", "nest"]
runpy.run_path("run.py", run_name="__main__")
"""
done = subprocess.run([sys.executable, "-W", "ignore", "-c", without_strop], cwd=folder, capture_output=True, text=True)
print(done.stdout)
print("exit code:", done.returncode)

# %% [markdown]
# ## Where to go next
#
# * The same on the command line: `strop train digits --out digits.keras`, then `strop inspect`, `strop verify`, `strop
#   export` with the file; each knows `--help`.
# * **Spikes from the pixels on.** `strop.lower(model, encoding="bitplane", bits=5, step=1 / 16)` feeds these 17 levels
#   of grey as five binary planes in one step; nothing is left to the host. See [encodings](encodings.md).
# * **A network of your own.** [Layers](layers.md) lists what becomes of each Keras layer, and what is refused and why.
# * **An old Whetstone model.** `strop.load_model` opens `.h5` files that the original package wrote in 2018.
# * **Neuromorphic hardware.** [SpiNNaker](spinnaker.md) maps a network on a board that need not be there, and says what
#   its 16-bit weights would change.
# * **Another simulator.** [Write a backend](write-a-backend.md): `Careless` above is nearly one.
# * **Why this works at all:** [Concepts](concepts.md).
