"""`VerificationJob`: all that a process needs to verify chunks of frames."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.errors import ModelFileError, StropError
from strop.graph import Graph
from strop.running.backend import Backend
from strop.running.jobs import Job
from strop.verification.session import Verification

if TYPE_CHECKING:
    from strop.lowering.context import Lowering
    from strop.lowering.probe import KerasProbe


@dataclass(frozen=True)
class _SentModel:
    """A Keras model on its way to another process: the bytes of its `.keras` file."""

    content: bytes


@dataclass
class VerificationJob(Job):
    """A verification; see `Verification`.

    It is pickled with the graph and its relation to the model, so that all processes have the same, and the model as
    the bytes of a `.keras` file, which each opens as `strop.load_model` does.
    """

    graph: Graph
    probe: KerasProbe | _SentModel | None
    lowering: Lowering | None
    backends: Mapping[str, Backend]
    options: Mapping[str, Mapping[str, Any]]

    def __getstate__(self) -> dict[str, Any]:
        probe = self.probe
        if probe is not None and not isinstance(probe, _SentModel):
            probe = _sent(probe)
        return {**vars(self), "probe": probe}

    def start(self) -> Verification:
        if isinstance(self.probe, _SentModel):
            assert self.lowering is not None
            return replace(self, probe=_opened(self.probe, self.lowering)).start()
        return Verification(self.graph, self.probe, self.lowering, self.backends, self.options)


def _sent(probe: KerasProbe) -> _SentModel:
    with tempfile.TemporaryDirectory(prefix="strop-") as folder:
        path = Path(folder) / "model.keras"
        try:
            probe.model.save(path)
        except Exception as error:  # whatever the model's own layers raise
            raise StropError(
                f"model {probe.model.name!r} cannot be saved, and so not be sent to other processes: "
                f"{type(error).__name__}: {error}. Verify it in this process, or its graph, strop.lower(model)"
            ) from error
        return _SentModel(path.read_bytes())


def _opened(sent: _SentModel, lowering: Lowering) -> KerasProbe:
    from strop.lowering.probe import KerasProbe
    from strop.reader import load_model

    with tempfile.TemporaryDirectory(prefix="strop-") as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(sent.content)
        try:
            model = load_model(path)
        except StropError as error:
            raise ModelFileError(
                f"model {lowering.graph.name!r} cannot be opened by another process: {error}. Where it has layers or "
                "functions of your own, verify it in this process, without workers or a client; or verify its graph, "
                "strop.lower(model)"
            ) from error
    return KerasProbe(model, lowering)
