"""Standalone folders: `strop.export` writes a network that runs where strop is not installed.

A target is found through the entry-point group `strop.targets`: a callable `write(graph, out, frames, labels,
**options)` that fills an existing, empty folder. This module makes the folder appear whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from strop.errors import BackendError, BackendMissingError, DataError, did_you_mean
from strop.export.arrays import ARITHMETICS
from strop.graph.files.atomic import naming
from strop.graph.files.drafts import LOCK, forget_draft, note_draft
from strop.quantization.quantize import quantize_report
from strop.quantization.records import Quantization
from strop.running.encode import FrameDict, Frames, as_frames
from strop.running.frames import frames_and_labels
from strop.running.labels import labels_by_output
from strop.running.model_argument import ModelOrGraph, as_graph
from strop.running.stimulus import current_driven_populations

GROUP = "strop.targets"
# A target that is a file, not a folder: see `strop.export.keras_model`.
KERAS = "keras"

# Fills an empty folder: graph, folder, frames by input (float32, shape (n, *input_shape)) and classes, or
# None for either.
Writer = Callable[..., None]


def target_names() -> list[str]:
    """Return the names of all targets: those that are registered, and "keras"."""
    return sorted({KERAS, *(entry.name for entry in entry_points(group=GROUP))})


def get_target(name: str) -> Writer:
    """Return the writer of the target registered as `name`.

    Raises
    ------
    BackendMissingError
        If there is no such target, or a package that it needs is not installed.
    BackendError
        If two distributions have registered the same name.
    """
    own = entry_points(group=GROUP) if isinstance(name, str) else ()
    entries = {entry.value: entry for entry in own if entry.name == name}
    if not entries:
        known = target_names()
        raise BackendMissingError(
            f"there is no target {name!r} to export for; known are: {', '.join(known)}{did_you_mean(name, known)}"
        )
    if len(entries) > 1:
        raise BackendError(f"the target name {name!r} is registered twice: {', '.join(sorted(entries))}")
    try:
        writer: Writer = next(iter(entries.values())).load()
    except ImportError as error:
        raise BackendMissingError(f"the target {name!r} cannot be used: {error}") from error
    return writer


def export(
    graph: ModelOrGraph,
    target: str,
    out: str | os.PathLike[str],
    *,
    frames: Frames | None = None,
    labels: Any = None,
    quantize: bool = True,
    **options: Any,
) -> Path:
    """Write a folder that runs `graph` on `target` without strop, and return its path.

    >>> strop.export(graph, "pynn", "lenet-pynn", frames=x_test[:100], labels=y_test[:100])

    Parameters
    ----------
    graph : Graph, keras.Model or path
        A model is lowered as `strop.lower(model)` does.
    target : {"brian2", "pynn", "spinnaker", "nengo", "nir", "keras"}, or another that is registered
    out : path
        Folder to write; it must not exist, or be empty. For "keras" the `.keras` file that `strop.to_keras(graph)` is
        saved to.
    frames : array, shape (n, *input_shape), optional
        Frames to include, as for `strop.simulate`; the folder then holds the spikes expected for them.
    labels : array of class numbers, shape (n,), or one-hot rows, optional
        Their classes, of the first output; see `strop.running.labels`.
    quantize : bool
        Whether a graph is brought into the target's arithmetic first, where it computes in few bits ("spinnaker"): see
        `strop.quantize`.
    options
        Passed on to the target.

    Raises
    ------
    DataError
        If the folder is not empty, or frames or labels do not fit.
    BackendError, BackendMissingError
        If the target cannot take this graph, or is not installed.
    """
    folder = Path(out)
    if target == KERAS:
        return _keras_file(graph, folder, [*(["frames"] if frames is not None or labels is not None else []), *options])
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} is there already and is no empty folder; nothing was written")
    writer = get_target(target)
    graph = as_graph(graph, "strop.export", frames)
    if frames is None and labels is not None:
        raise DataError("labels were given without frames")
    account = ""
    # What is driven by currents the writer refuses, and says what to do.
    if quantize and target in ARITHMETICS and not current_driven_populations(graph):
        result = quantize_report(graph, ARITHMETICS[target], frames=frames, labels=labels)
        graph, account = result.graph, _account(result)
    ready: FrameDict | None = None
    truth = None
    if frames is not None:
        data = frames_and_labels(graph, frames, labels)
        ready = as_frames(graph, data.frames)
        truths, _ = labels_by_output(graph, data.labels, data.count)
        truth = None if truths is None else truths[0]

    with naming(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the folder, so that the last step is one rename within a file system.
        with LOCK:
            draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            note_draft(draft)
    try:
        with naming(folder):
            writer(graph, draft, ready, truth, **options)
            if account:
                with (draft / "README.md").open("a", encoding="utf-8") as readme:
                    readme.write(account)
            # mkdtemp makes private folders.
            draft.chmod(0o777 & ~_umask())
            with LOCK:
                if folder.exists():
                    folder.rmdir()
                draft.replace(folder)
    finally:
        with LOCK:
            shutil.rmtree(draft, ignore_errors=True)
            forget_draft(draft)
    return folder


def _keras_file(graph: ModelOrGraph, path: Path, extra: list[str]) -> Path:
    from strop.export.keras_model import write_keras

    if extra:
        raise DataError(f"a Keras model holds a network alone: leave {', '.join(extra)} out; nothing was written")
    return write_keras(graph, path)


def _account(result: Quantization) -> str:
    """Return what a folder's README says of the quantisation."""
    lines = [
        "",
        "## Whole numbers",
        "",
        f"Weights and thresholds were rounded to whole numbers that fit {result.arithmetic.name}, so that no input can "
        "overflow a sum and",
        "no sum can meet a threshold: the spikes of this network are the same for all inputs (`certificate.json`).",
    ]
    if result.frames:
        changed = sum(row.changed or 0 for row in result.populations)
        decided = "" if result.decisions is None else f" and {result.decisions:,} decisions"
        lines.append(f"On the {result.frames:,} frames in this folder, {changed:,} spikes{decided} differ from before.")
    return "\n".join(lines) + "\n"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
