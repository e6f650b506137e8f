"""Take a model that was trained with the original Whetstone, years ago, to SpiNNaker.

    python examples/whetstone_to_spinnaker.py [MODEL.h5] [--data mnist.npz] [--out folder]

Without MODEL it takes the one in examples/models: 784-256-64-100, trained on MNIST and written by Whetstone 0.9.2
under Keras 2.1.2, which Keras 3 by itself cannot open (the state of its optimiser is left out).

Opens the old file, lowers it, says what SpiNNaker's 16-bit weights would change (each population scaled to what it
really sums up), and writes a folder that runs where only sPyNNaker is installed: `python folder/run.py spiNNaker`. No
board is needed here. Every spike is compared with Keras, in exact arithmetic and on NEST, through PyNN as on SpiNNaker.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from images import load_images

import strop
from strop.costs.inspection import inspect_graph
from strop.running.registry import available_backends
from strop_backends.pynn.spinnaker.fixed_point import fixed_point_report, measured_scaling

BACKENDS = [name for name in ("reference", "pynn-nest") if name in available_backends()]
SHIPPED = Path(__file__).parent / "models" / "original_whetstone_mlp.h5"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", default=SHIPPED, help="a file of the original Whetstone")
    parser.add_argument("--data", help="Keras's mnist.npz; by default where Keras keeps it")
    parser.add_argument("--frames", type=int, default=500, help="frames to verify")
    parser.add_argument("--out", type=Path, default=Path("whetstone_on_spinnaker"), help="folder to write")
    options = parser.parse_args()
    if not options.model.is_file():
        parser.error(f"there is no file {options.model}")
    if options.out.exists():
        parser.error(f"{options.out} is there already; choose another --out")

    model = strop.load_model(options.model)
    graph = strop.lower(model)
    print(inspect_graph(graph))

    # The scaling is measured on frames of the training set, and judged on frames of the test set.
    images = load_images(options.data)
    shape = (-1, *graph.inputs[0].shape)
    x, y = images.x_test.reshape(shape)[: options.frames], images.y_test[: options.frames]
    scaling = measured_scaling(graph, images.x_train.reshape(shape)[:1000], fill=True)
    print(fixed_point_report(graph, x, scaling, "measured on 1,000 training frames, with factors"))
    if "pynn-spinnaker" in available_backends():  # sPyNNaker maps the network on a virtual board
        print(inspect_graph(graph, "spinnaker", x))

    strop.export(graph, "spinnaker", options.out, frames=x[:100], labels=y[:100])
    print(f"written: {options.out} (100 frames and the spikes that they should give are in it)")
    for file in sorted(options.out.iterdir()):
        print(f"   {file.name:16s} {file.stat().st_size / 1024:8.1f} KiB")

    report = strop.verify(model, x, y, backends=BACKENDS)
    print(report)
    if images.source != "MNIST":
        print(
            f"The accuracy is that on {images.source}: the model was trained on MNIST, and has never seen such images. "
            "On MNIST (--data mnist.npz) it is 96.40 %. Spikes are compared all the same: they are equal on any frames."
        )
    return 0 if report.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
