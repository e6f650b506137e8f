"""`SimulatorProcesses`: a process of its own for each simulator, so that several run side by side.

In one process simulators take their turns: a verification is as slow as all of them together. Side by side it is as
slow as the slowest, or as the cores. `strop verify` does so; a script says `strop.verify(..., processes=True)`: the
simulators do not see what it has set in this process then.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from strop.graph.threads import THREAD_VARIABLES
from strop.running.own_process import ProcessRunner
from strop.running.scratch import scratch_folder

# Costs less than a process: it is the oracle's own code.
_HERE = "reference"


class SimulatorProcesses:
    """Processes for backends, which start at once and import their simulators; they end with the `with` block.

    >>> with SimulatorProcesses(["brian2", "nengo"]) as processes:
    ...     report = strop.verify(model, frames, backends=["brian2", "nengo"], processes=processes)

    Parameters
    ----------
    names : iterable of str
        Registered backends; `reference` stays in this process.
    """

    def __init__(self, names: Iterable[str]) -> None:
        given = [names] if isinstance(names, str) else names
        self.names = [name for name in dict.fromkeys(given) if name != _HERE]
        self._runners: dict[str, ProcessRunner] = {}
        self._stack = ExitStack()

    def __enter__(self) -> SimulatorProcesses:
        with ExitStack() as stack:
            # What simulators leave lying about goes with the folder.
            scratch = stack.enter_context(scratch_folder()) if self.names else None
            # Each computes in one thread, unless the user says otherwise: they share the cores among them.
            threads = {name: "1" for name in THREAD_VARIABLES if name not in os.environ}
            environment = {"TMPDIR": str(scratch), **threads}
            for name in self.names:
                runner = ProcessRunner(name, environment, scratch)
                stack.callback(runner.close)
                self._runners[name] = runner
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._runners.clear()
        self._stack.close()

    def runners_for(
        self, backends: Iterable[str], options: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, ProcessRunner]:
        """Return the processes of those backends that have one, and options that JSON can hold; others run in this one.

        Each is given away once: a process holds one network.
        """
        return {
            name: self._runners.pop(name)
            for name in backends
            if name in self._runners and _can_be_sent(options.get(name, {}))
        }


def _can_be_sent(options: Mapping[str, Any]) -> bool:
    try:
        return bool(json.loads(json.dumps(options)) == options)
    except (TypeError, ValueError):
        return False
