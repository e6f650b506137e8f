"""Writes the golden NIR files, `strop/conformance/nir/golden`, from golden cases: `python tests/support/nir_golden.py`.

A case is written for every profile that can say it, in float32, without delays.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from strop.conformance import golden_case
from strop.conformance.nir.cases import FOLDER
from strop.errors import BackendError
from strop.running.encode import as_frames, encode
from strop_backends.nir.emit import natural
from strop_backends.nir.files import write_file
from strop_backends.nir.neurons import NEURONS, level
from strop_backends.nir.profiles import PROFILES
from strop_backends.nir.writing import graph_hint, to_nir

CASES = (
    "all_silent_and_all_firing",
    "bias_at_and_beyond_the_threshold",
    "classifier",
    "composed_average_convolution",
    "composed_flatten_dense",
    "convolution_1d",
    "convolution_2d_dilated",
    "convolution_2d_grouped",
    "convolution_2d_same_strided",
    "current_hits_thresholds_exactly",
    "dense",
    "no_charge_is_carried_over",
    "pool_and",
    "pool_or",
    "skip_delays",
    "skip_delays_from_the_input",
    "threshold_above_every_sum",
    "threshold_hit_exactly",
    "threshold_just_above_and_below",
    "threshold_per_unit",
    "threshold_zero_and_negative",
    "two_inputs_two_outputs",
    "weights_all_zero",
)


def write(name: str, profile: str, folder: Path) -> bool:
    """Write one case in the form of a profile; returns whether it can be said."""
    case = golden_case(name)
    try:
        written = to_nir(case.graph, "float32", "never", profile=profile)
    except BackendError:
        return False
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / f"{name}.nir", written, compression=None)
    signals = encode(case.graph, as_frames(case.graph, case.frames))
    arrays: dict[str, Any] = {}
    shapes: dict[str, list[int]] = {}
    for node_name, node in written.nodes.items():
        title = str(graph_hint(node.metadata).get("name"))
        if title in signals:
            values = signals[title].reshape(len(signals[title]), -1)
            arrays[f"input:{node_name}"] = values[:, natural(case.graph.signal_shape(title))].astype(np.float32)
        elif isinstance(node, NEURONS):
            spikes = case.spikes[title]
            place = np.arange(spikes[0].size) if level(node).ndim == 1 else natural(spikes.shape[1:])
            shapes[node_name] = list(place.shape)
            arrays[f"expected:{node_name}"] = np.packbits(spikes.reshape(len(spikes), -1)[:, place].reshape(-1))
    about = {"says": case.says, "dt": graph_hint(written.metadata)["dt"], "neurons": shapes}
    np.savez_compressed(folder / f"{name}.npz", about=np.array(json.dumps(about)), **arrays)
    return True


def main(folder: Path) -> None:
    """Write all of them."""
    for profile in PROFILES:
        names = [name for name in CASES if write(name, profile, folder / profile)]
        print(f"{profile}: {len(names)} of {len(CASES)}; not: {', '.join(set(CASES) - set(names)) or '-'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
