"""`VerificationJob`: all that a process needs to verify chunks of frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from strop.graph import Graph
from strop.running.backend import Backend
from strop.running.jobs import Job
from strop.verification.session import Verification

if TYPE_CHECKING:
    from strop.lowering.context import Lowering
    from strop.lowering.probe import KerasProbe


@dataclass
class VerificationJob(Job):
    """A verification; see `Verification`."""

    graph: Graph
    probe: KerasProbe | None
    lowering: Lowering | None
    backends: Mapping[str, Backend]
    options: Mapping[str, Mapping[str, Any]]

    def start(self) -> Verification:
        return Verification(self.graph, self.probe, self.lowering, self.backends, self.options)
