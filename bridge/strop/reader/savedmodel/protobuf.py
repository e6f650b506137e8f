"""A reader for the wire format of protocol buffers, as far as the SavedModel reader needs it.

TensorFlow ships the classes for `keras_metadata.pb` only in a private module that comes and goes with its
versions. The wire format does not change (https://protobuf.dev/programming-guides/encoding/), and a handful
of known field numbers is all that is read.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def fields(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and the value of each field of a serialised message.

    >>> [(number, bytes(value)) for number, value in fields(b"\\x0a\\x02hi")]
    [(1, b'hi')]

    Parameters
    ----------
    message : bytes

    Yields
    ------
    number : int
    value : int for a varint; memoryview of the bytes for anything else (a string, a message, a fixed-width
    number)

    Raises
    ------
    ValueError
        If the bytes are no such message: cut short, or of an unknown wire type.
    """
    data = memoryview(message)
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == _BYTES:
            length, position = _varint(data, position)
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"unknown wire type {kind} at byte {position}")
        if number == 0 or position + length > len(data):
            raise ValueError(f"field {number} at byte {position} is cut short")
        yield number, data[position : position + length]
        position += length


def messages(message: bytes | memoryview, number: int) -> list[memoryview]:
    """Return the values of all length-delimited fields with this number, in order."""
    return [value for found, value in fields(message) if found == number and isinstance(value, memoryview)]


def text(message: bytes | memoryview, number: int) -> str:
    """Return the last string field with this number, or '' where there is none (as proto3 does)."""
    values = messages(message, number)
    return bytes(values[-1]).decode("utf-8") if values else ""


def integer(message: bytes | memoryview, number: int) -> int:
    """Return the last varint field with this number, or 0 where there is none (as proto3 does)."""
    values = [value for found, value in fields(message) if found == number and isinstance(value, int)]
    return values[-1] if values else 0


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("message ends inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"number of more than ten bytes before byte {position}")
