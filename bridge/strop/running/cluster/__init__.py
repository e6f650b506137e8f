"""Chunks of frames over several processes, here or on other machines, by Dask's `distributed` (extra `cluster`).

`run_job` is where the functions that take `workers` and `client` begin.
"""

from strop.running.cluster.run import run_job
from strop.running.cluster.workers import local_workers

__all__ = ["local_workers", "run_job"]
