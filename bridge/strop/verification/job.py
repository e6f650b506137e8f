"""`VerificationJob`: all that a process needs to verify chunks of frames."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strop.errors import ModelFileError, StropError
from strop.graph import Graph
from strop.running.backend import Backend
from strop.running.jobs import Job
from strop.running.side_by_side import SimulatorProcesses
from strop.verification.session import Verification

if TYPE_CHECKING:
    import keras

    from strop.lowering.context import Lowering
    from strop.lowering.probe import KerasProbe


@dataclass(frozen=True)
class _SentModel:
    """A Keras model on its way to another process: the bytes of its `.keras` file."""

    content: bytes


@dataclass
class VerificationJob(Job):
    """A verification; see `Verification`.

    It is pickled with the graph, and with the model as the bytes of a `.keras` file, which each process opens as
    `strop.load_model` does, and lowers again: it must give the same graph.

    Attributes
    ----------
    lowered_as : mapping
        Arguments of `strop.lowering.trace` for the model.
    processes : SimulatorProcesses, optional
        For backends, where the chunks are taken in this process.
    """

    graph: Graph
    probe: KerasProbe | _SentModel | None
    lowering: Lowering | None
    backends: Mapping[str, Backend]
    options: Mapping[str, Mapping[str, Any]]
    lowered_as: Mapping[str, Any] = field(default_factory=dict)
    processes: SimulatorProcesses | None = None

    def __getstate__(self) -> dict[str, Any]:
        if self.probe is None or isinstance(self.probe, _SentModel):
            return vars(self)
        return {**vars(self), "probe": _sent(self.probe), "lowering": None}

    def start(self) -> Verification:
        probe, lowering = self.probe, self.lowering
        if isinstance(probe, _SentModel):
            probe, lowering = self._opened(probe)
        return Verification(self.graph, probe, lowering, self.backends, self.options, self.processes)

    def _opened(self, sent: _SentModel) -> tuple[KerasProbe, Lowering]:
        """Open the model that was sent, and relate it to the graph."""
        from strop.lowering import trace
        from strop.lowering.probe import KerasProbe

        model = _opened(sent, self.graph.name)
        lowering = trace(model, **self.lowered_as)
        if lowering.graph.digest != self.graph.digest:
            raise StropError(
                f"model {self.graph.name!r} becomes another graph when it is saved and opened again, as it is to be "
                "sent to other processes: verify it in this one, without workers or a client"
            )
        return KerasProbe(model, lowering), lowering


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


def _opened(sent: _SentModel, name: str) -> keras.Model:
    from strop.reader import load_model

    with tempfile.TemporaryDirectory(prefix="strop-") as folder:
        path = Path(folder) / "model.keras"
        path.write_bytes(sent.content)
        try:
            return load_model(path)
        except StropError as error:
            raise ModelFileError(
                f"model {name!r} cannot be opened by another process: {error}. Where it has layers or functions of "
                "your own, verify it in this process, without workers or a client; or its graph, strop.lower(model)"
            ) from error
