"""Jobs: work on chunks of frames that a process prepares once; in this process here, in several in `cluster`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from typing import Any

from strop.graph import Graph
from strop.running.encode import FrameDict, ready_frames
from strop.running.frame_source import Chunk


class Session(ABC):
    """What one process has built for a job: it takes chunks, each by itself."""

    @abstractmethod
    def take(self, chunk: Any, wanted: Any) -> Any:
        """Return what comes of one chunk, given what is wanted of it."""

    # Whether `expect` is to be called ahead of time.
    looks_ahead: bool = False

    def expect(self, chunk: Any) -> None:
        """Begin with a chunk that will be taken next, after the one that is being taken."""
        return None

    def close(self) -> None:
        """Release what was built. May be called more than once."""
        return None


class Job(ABC):
    """A job, before anything is built for it.

    One that is sent to other processes is pickled: its `__getstate__` leaves out what they make anew.
    """

    @abstractmethod
    def start(self) -> Session:
        """Build what the job needs, in the process that is to take chunks."""

    def packed(self, chunk: Chunk) -> Any:
        """Return a chunk as it is sent to another process: without what can be made there from the rest."""
        return replace(chunk, frames={})


def frames_of(graph: Graph, chunk: Chunk) -> FrameDict:
    """Return the frames of a chunk, ready for `strop.running.encode.encode`, whether or not they were sent with it."""
    return chunk.frames or ready_frames(graph, chunk.own)


def run_here(job: Job, chunks: Iterable[Any], wanted: Callable[[Any], Any]) -> Generator[Any, None, None]:
    """Yield what comes of each chunk, in their order, in this process.

    Parameters
    ----------
    wanted : callable
        Called with each chunk when it is given out; its result goes to `Session.take`.
    """
    session = job.start()
    try:
        for chunk in _announced(session, chunks) if session.looks_ahead else chunks:
            yield session.take(chunk, wanted(chunk))
    finally:
        session.close()


def _announced(session: Session, chunks: Iterable[Any]) -> Iterator[Any]:
    """Yield chunks, each when the session expects the one behind it."""
    left = iter(chunks)
    chunk = next(left, None)
    if chunk is not None:
        session.expect(chunk)
    while chunk is not None:
        following = next(left, None)
        if following is not None:
            session.expect(following)
        yield chunk
        chunk = following
