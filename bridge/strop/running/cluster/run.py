"""`run_job`: gives out chunks of frames, and yields what comes of them in their order."""

from __future__ import annotations

import pickle
import queue
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from strop.errors import StropError
from strop.running.cluster.workers import Present, Silence, address_of, client_of, imported, local_workers
from strop.running.jobs import Job, run_here

# Chunks that are with a worker at a time: one that it works on, one that is there when it is done.
_GIVEN_OUT = 2
# Chunks beyond the oldest that is not done, per worker: results are handed on in order, and wait for it.
_AHEAD = 4
# How often a chunk is taken again whose worker could not read or write a file, or had no memory. (One whose worker died
# is taken again as often as Dask's `distributed.scheduler.allowed-failures` says: 3 times.)
_RETRIES = 2
# Seconds after which the workers themselves are looked at.
_LOOK = 1.0


def run_job(
    job: Job,
    chunks: Iterable[Any],
    wanted: Callable[[Any], Any],
    workers: int | None = None,
    client: Any = None,
) -> Generator[Any, None, None]:
    """Yield what comes of each chunk, in the order of the chunks; see `strop.running.jobs.run_here`.

    Memory does not grow with the number of chunks: only so many are given out as the workers need to be busy.

    Parameters
    ----------
    workers : int, optional
        Number of processes to start on this machine; by default the chunks are taken in this one.
    client : distributed.Client, or address of a scheduler, optional
        Its workers take the chunks.

    Raises
    ------
    StropError
        What the job raises on a worker; or if the workers, or the scheduler, are lost.
    ExtraMissingError
        If Dask's `distributed` is not installed.
    """
    if workers is None and client is None:
        yield from run_here(job, chunks, wanted)
        return
    if workers is not None and client is not None:
        raise StropError("give either workers, to start processes here, or client, to use those of a scheduler")
    with ExitStack() as stack:
        stack.enter_context(Silence())
        if workers is not None:
            client = stack.enter_context(local_workers(workers))
        else:
            client = stack.enter_context(client_of(client))
        dealer = stack.enter_context(_Dealer(client, job))
        yield from dealer.results(chunks, wanted)


@contextmanager
def _one_clear_error(client: Any) -> Iterator[None]:
    """Turn what Dask raises when it loses its scheduler into a `StropError`."""
    distributed = imported()
    try:
        yield
    except (OSError, distributed.CancelledError, distributed.TimeoutError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and client.status == "running":
            raise
        raise StropError(
            f"the scheduler at {address_of(client)} was lost before all frames were through, and nothing of what its "
            f"workers found is used ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from error


class _Dealer:
    """Gives out the chunks of one job."""

    def __init__(self, client: Any, job: Job) -> None:
        from strop.running.cluster.task import Preparation, versions

        self.client, self.job, self.present = client, job, Present(client)
        self.run = uuid.uuid4().hex
        self.plugin = Preparation(self.run, _packed(job), versions())
        # What was given out: future, and the chunk's place and name for messages.
        self.given: dict[Any, tuple[int, str]] = {}
        self.done: dict[int, Any] = {}
        # Futures that are done, failed or cancelled; Dask calls from a thread of its own.
        self.ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __enter__(self) -> _Dealer:
        with _one_clear_error(self.client):
            # A worker that dies while the plug-in is brought to all of them makes the call fail for all.
            for _ in range(_RETRIES):
                try:
                    self.client.register_plugin(self.plugin)
                except OSError:
                    if self.client.status != "running":
                        raise
                else:
                    return self
            self.client.register_plugin(self.plugin)
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(Exception):
            if self.given:
                self.client.cancel(list(self.given), force=True)
            self.client.unregister_worker_plugin(self.plugin.name)

    def results(self, chunks: Iterable[Any], wanted: Callable[[Any], Any]) -> Generator[Any, None, None]:
        """Yield results in the order of the chunks."""
        left, place, next_out = iter(chunks), 0, 0
        exhausted = False
        while True:
            with _one_clear_error(self.client):
                workers = max(1, self.present.count())
            while not exhausted and len(self.given) < _GIVEN_OUT * workers and place - next_out < _AHEAD * workers:
                chunk = next(left, None)
                if chunk is None:
                    exhausted = True
                    break
                self._give(place, chunk, wanted(chunk))
                place += 1
            if next_out in self.done:
                yield self.done.pop(next_out)
                next_out += 1
            elif self.given:
                self._collect()
            elif exhausted:
                break
        if next_out != place or self.done:
            raise StropError(f"{place} chunks of frames were given out, and {next_out} came back")

    def _give(self, place: int, chunk: Any, wanted: Any) -> None:
        import dask

        from strop.running.cluster.task import take_chunk

        name = f"frames {chunk.start:,} to {chunk.start + chunk.count - 1:,}"
        # Frames travel with their task: a worker that dies takes nothing with it that cannot be sent again.
        quiet = dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"})
        with quiet, _one_clear_error(self.client):
            future = self.client.submit(
                take_chunk,
                self.run,
                self.job.packed(chunk),
                wanted,
                key=f"strop-{self.run}-{place}",
                pure=False,
                retries=_RETRIES,
            )
        self.given[future] = (place, name)
        future.add_done_callback(self.ended.put)

    def _collect(self) -> None:
        """Wait for a chunk to be done, and take its result; or for a while."""
        distributed = imported()
        try:
            future = self.ended.get(timeout=_LOOK)
        except queue.Empty:
            return
        with _one_clear_error(self.client):
            error = future.exception()
            if isinstance(error, distributed.CancelledError):
                raise error
            answer = future.result() if error is None else error
        place, name = self.given.pop(future)
        self.done[place] = _answer(answer, name)
        future.release()


def _answer(answer: Any, name: str) -> Any:
    """Return the result of a task; raise one clear error if it is one, or there is none."""
    from strop.running.cluster.task import Failed

    if isinstance(answer, Failed):
        raise answer.error
    if not isinstance(answer, BaseException):
        return answer
    if isinstance(answer, imported().KilledWorker):
        raise StropError(
            f"{name}: each process that took them died, {answer.allowed_failures + 1} in all; killed for want of "
            "memory, perhaps. Use fewer workers"
        ) from answer
    if isinstance(answer, (OSError, MemoryError)):
        file = getattr(answer, "filename", None)
        where = f": {file}" if file else ""
        what = getattr(answer, "strerror", None) or str(answer) or type(answer).__name__
        raise StropError(f"{name} failed {_RETRIES + 1} times on the workers: {what}{where}") from answer
    raise answer


def _packed(job: Job) -> bytes:
    import cloudpickle

    try:
        packed: bytes = cloudpickle.dumps(job)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise StropError(
            f"this cannot be sent to other processes, and must run in this one, without workers or a client: {error}"
        ) from error
    return packed
