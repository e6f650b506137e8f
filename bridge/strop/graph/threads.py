"""Work on blocks of frames, shared among threads: NumPy lets go of Python's lock while it computes."""

from __future__ import annotations

import os
from collections.abc import Callable

# By which libraries are told how many threads to compute in.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Fewer blocks are not worth a thread.
_LEAST_BLOCKS = 4


def thread_count() -> int:
    """Return how many threads to work in: the cores that this process may use, or fewer, by OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else cores


def in_threads(work: Callable[[range], None], blocks: range) -> None:
    """Call `work` with all `blocks`, some in each thread; the threads have ended when this returns.

    None is left behind, so that a process may fork at any time.
    """
    threads = min(thread_count(), len(blocks) // _LEAST_BLOCKS)
    if threads <= 1:
        work(blocks)
        return
    from concurrent.futures import ThreadPoolExecutor  # not needed to import strop

    with ThreadPoolExecutor(threads) as pool:
        # Neighbours in turn: blocks are of equal size.
        for finished in [pool.submit(work, blocks[own::threads]) for own in range(threads)]:
            finished.result()
