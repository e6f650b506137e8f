"""Messages between a process and one that runs a network for it: `.npz` behind a header in JSON, nothing pickled."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from strop.running.backend import Pair

Arrays = Mapping[str, npt.NDArray[Any]]
# Before the first answer: what has been printed until then is not meant for the other side.
GREETING = b"\nstrop's answers follow\n"


def send(stream: IO[bytes], header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a header and arrays."""
    body = io.BytesIO()
    np.savez(body, *arrays.values())
    with body.getbuffer() as view:
        head = json.dumps({**header, "arrays": list(arrays), "bytes": len(view)}).encode()
        stream.write(len(head).to_bytes(8, "little") + head)
        stream.write(view)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read a header and arrays; `EOFError` where there are no more."""
    header = json.loads(_exactly(stream, int.from_bytes(_exactly(stream, 8), "little")))
    with np.load(io.BytesIO(_exactly(stream, header["bytes"])), allow_pickle=False) as found:
        return header, {name: found[f"arr_{n}"] for n, name in enumerate(header["arrays"])}


def key_of(pair: Pair) -> str:
    """Return the name under which the weights of a projection are sent."""
    return json.dumps(pair)


def pair_of(key: str) -> Pair:
    """Return the projection whose weights are sent under a name."""
    source, target = json.loads(key)
    return source, target


def skip_to_greeting(stream: IO[bytes]) -> None:
    """Read up to the greeting, and past it; `EOFError` where there is none."""
    before = b""
    for line in stream:
        if (before + line).endswith(GREETING):
            return
        before = line
    raise EOFError("the other process has said nothing")


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError("the other process has closed its stream")
    return data
