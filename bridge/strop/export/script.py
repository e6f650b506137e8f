"""`write_folder`: fills a standalone folder, with the network, a script that runs it, and a README."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop.export.arrays import describe, write_portable
from strop.graph import Graph
from strop.running.encode import FrameDict

_SHARED = Path(__file__).parent / "templates" / "standalone.py"


def write_folder(
    graph: Graph,
    folder: Path,
    frames: FrameDict | None,
    labels: npt.NDArray[np.int64] | None,
    target: str,
    template: Path,
    readme: str,
    encodings: Sequence[str] = ("host", "bitplane", "binary"),
    others: Iterable[Path] = (),
) -> None:
    """Write the network as plain arrays, the script for one simulator, and a README.

    Parameters
    ----------
    graph, folder, frames, labels, target, encodings
        As for `strop.export.arrays.write_portable`.
    template, others
        As for `write_script`.
    readme : str
        A format string for the values of `strop.export.arrays.describe`.
    """
    network = write_portable(graph, folder, frames, labels, target, encodings)
    write_script(folder, template, *others)
    (folder / "README.md").write_text(readme.format(**describe(network, frames)), encoding="utf-8")


def write_script(folder: Path, template: Path, *others: Path) -> None:
    """Copy `template` as `run.py`, and beside it `standalone.py`, and `others` under their own names.

    Parameters
    ----------
    folder : path
        The standalone folder.
    template : path
        A script that builds and runs the network with one simulator; it imports nothing of strop, but `standalone`.
    others : paths
        What it imports besides.
    """
    for source, name in ((template, "run.py"), (_SHARED, "standalone.py"), *((path, path.name) for path in others)):
        (folder / name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")


def refuse_options(target: str, options: Mapping[str, Any], known: Iterable[str] = ()) -> None:
    """Raise `BackendError` if one of `options` is none of those that the target knows."""
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise BackendError(f"the target {target!r} does not know the option(s) {', '.join(unknown)}")
