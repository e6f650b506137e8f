"""One forked process per mutant, with a limit on its time and memory."""

from __future__ import annotations

import gc
import json
import os
import resource
import selectors
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

_T = TypeVar("_T")
_MEMORY = 4 << 30  # bytes that a mutant may take on top of what is there already


def results(
    items: Sequence[_T],
    work: Callable[[_T], dict[str, Any]],
    workers: int,
    timeout: float,
    deadline: float | None = None,
) -> Iterator[tuple[_T, dict[str, Any]]]:
    """Yield `(item, work(item))`, each worked out in a forked process, as they come."""
    waiting = list(items)[::-1]
    running: dict[int, tuple[_T, int, float, bytearray]] = {}
    with selectors.DefaultSelector() as selector:
        while waiting or running:
            late = deadline is not None and time.monotonic() > deadline
            while waiting and len(running) < workers and not late:
                item = waiting.pop()
                pipe, pid = _start(item, work)
                running[pipe] = (item, pid, time.monotonic() + timeout, bytearray())
                selector.register(pipe, selectors.EVENT_READ)
            if not running:
                return
            ended = []
            for key, _ in selector.select(1.0):
                chunk = os.read(key.fd, 1 << 16)
                running[key.fd][3].extend(chunk)
                if not chunk:
                    ended.append(key.fd)
            for pipe, (item, pid, until, text) in list(running.items()):
                overdue = pipe not in ended and time.monotonic() > until
                if overdue:
                    os.kill(pid, signal.SIGKILL)
                elif pipe not in ended:
                    continue
                selector.unregister(pipe)
                os.close(pipe)
                os.waitpid(pid, 0)
                del running[pipe]
                if overdue:
                    yield (
                        item,
                        {"caught": "too long", "case": "", "detail": f"more than {timeout:.0f} s", "changed": {}},
                    )
                elif not text:
                    yield item, {"caught": "died", "case": "", "detail": "the process died", "changed": {}}
                else:
                    yield item, json.loads(text.decode())


def _start(item: _T, work: Callable[[_T], dict[str, Any]]) -> tuple[int, int]:
    reader, writer = os.pipe()
    gc.freeze()
    pid = os.fork()
    if pid:
        os.close(writer)
        return reader, pid
    os.close(reader)
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        text = json.dumps(work(item))
        with os.fdopen(writer, "w") as pipe:
            pipe.write(text)
    except BaseException as error:
        with os.fdopen(writer, "w") as pipe:
            pipe.write(json.dumps({"caught": "raised", "case": "", "detail": repr(error)[:200], "changed": {}}))
    finally:
        os._exit(0)
