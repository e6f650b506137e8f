"""`population_class`: PyNN's population for NEST, whose recorder has NEST's own settings, whatever a script's defaults.

PyNN 0.13 (`nest/recording.py`) makes a `spike_recorder` with NEST's defaults as they are then, and connects it when its
own `run` is called for the first time, by a default synapse; after that no cell can be added. Here it is connected at
once: spikes of `nest.Simulate` are recorded, and cells can be added at any time.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from strop.errors import BackendError
from strop_backends.pynn.common.recorders import recorder_class
from strop_backends.pynn.nest.cells import settings
from strop_backends.pynn.nest.projections import small_synapse
from strop_backends.pynn.nest.warning_filter import quiet_nest


@lru_cache
def population_class(sim: ModuleType) -> type:
    """Return the population of neurons for `sim`, the module `pyNN.nest`."""
    import nest
    from pyNN.nest.recording import Recorder, SpikeDetector

    base: Any = sim

    class Detector(SpikeDetector):  # type: ignore[misc]  # PyNN ships no types
        def add_ids(self, new_ids: Any) -> None:
            """Connect these cells now."""
            if new_ids:
                cells = nest.NodeCollection(sorted(new_ids))
                synapse = {**small_synapse(int(nest.network_size)), "delay": base.simulator.state.min_delay}
                nest.Connect(cells, self.device, "all_to_all", synapse)
            self._all_ids |= set(new_ids)

        def connect_to_cells(self) -> None:
            """Nothing is left to connect."""
            self._connected = True

    def adopt(detector: Any) -> None:
        detector.__class__ = Detector
        detector.device.set(settings(nest, "spike_recorder"))
        if detector.device.get("time_in_steps"):
            if nest.biological_time:
                raise BackendError(
                    "pynn-nest: NEST's defaults let spike recorders count in steps (time_in_steps), which cannot be "
                    'changed once NEST has run: nest.SetDefaults("spike_recorder", {"time_in_steps": False}) first'
                )
            detector.device.set(time_in_steps=False)

    class DeltaRecorder(recorder_class(Recorder)):  # type: ignore[misc]  # known only at run time
        def __init__(self, population: Any, file: Any = None) -> None:
            with quiet_nest():
                super().__init__(population, file)
                adopt(self._spike_detector)

        def now(self) -> float:
            """NEST is ahead of PyNN's time."""
            state = base.simulator.state
            return float(state.t_kernel - state._time_offset)

        def record(self, variables: Any, ids: Any, sampling_interval: Any = None, locations: Any = None) -> None:
            with quiet_nest():
                super().record(variables, ids, sampling_interval, locations)

        def _reset(self) -> None:
            super()._reset()
            adopt(self._spike_detector)

    class Neurons(base.Population):  # type: ignore[misc]
        __doc__ = base.Population.__doc__
        _recorder_class: ClassVar = DeltaRecorder
        _deferred = False

        @property
        def _deferred_parrot_connections(self) -> bool:
            """PyNN asks for it before each run (`simulator.py`, `run`): the moment to look at the clock."""
            state = base.simulator.state
            if state.running and state.t_kernel <= state._time_offset:
                raise BackendError(
                    "pynn-nest: NEST's clock has been set back (nest.biological_time = 0), and spikes that were under "
                    "way would arrive at another time. sim.setup(), build the network again, and use network.reset()"
                )
            return self._deferred

        @_deferred_parrot_connections.setter
        def _deferred_parrot_connections(self, value: bool) -> None:
            self._deferred = value

    return Neurons


def events_of(recorder: Any, dt: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return senders and ticks of all spikes of one of NEST's recorders, and discard them."""
    events = recorder.get("events")
    # As a list: of a dict, PyNEST looks up what is there, the events among it (`lib/hl_api_types.py`, `set`).
    recorder.set([{"n_events": 0}])
    step = 1.0 if recorder.get("time_in_steps") else dt
    return np.asarray(events["senders"], dtype=np.int64), np.rint(np.asarray(events["times"]) / step).astype(np.int64)
