"""`write_certificate`: the certificate of a standalone folder, and the script that proves it again without strop."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.graph import Graph
from strop.quantization.certify import certify
from strop.running.arithmetic import Arithmetic

_CHECKER = Path(__file__).parent / "templates" / "check_certificate.py"


def network_digest(network: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return SHA-256 of the populations and projections of `network.json` and of all arrays of `network.npz`.

    First the JSON of `[populations, projections]` with sorted keys and without blanks; then for each array, by name:
    its name, a zero byte, the little-endian type string, the shape as Python writes a tuple, and the bytes in C order.
    """
    text = json.dumps([network["populations"], network["projections"]], sort_keys=True, separators=(",", ":"))
    content = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        content.update(f"{name}\0{array.dtype.str}{array.shape}".encode() + array.tobytes())
    return content.hexdigest()


def write_certificate(
    folder: Path,
    graph: Graph,
    target: str | Arithmetic,
    network: Mapping[str, Any],
    arrays: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Write `certificate.json` and `check_certificate.py` to a folder whose `network.json` and `network.npz` are
    given."""
    certificate = certify(graph, target, expand=True).to_dict() | {"network": network_digest(network, arrays)}
    (folder / "certificate.json").write_text(json.dumps(certificate, indent=1) + "\n", encoding="utf-8")
    (folder / _CHECKER.name).write_text(_CHECKER.read_text(encoding="utf-8"), encoding="utf-8")
