"""Damaged copies of files, from a seed: random bytes, cut ends, and edits that know the format.

A damage takes the bytes of a file and a random generator and returns other bytes. Those that know the format leave the
checksums right, so that what is behind them is reached: the values in a zip, the attributes of an HDF5 file.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

Random = np.random.Generator
Damage = Callable[[bytes, Random], bytes]
# What stands in place of a part of a JSON document, or of an attribute.
JUNK: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 2.5, 1e308, float("nan"), 10**9, 10**30, 2**31, 2**63, "", "junk", "../x", "\x00",
    [], {}, [[]], [None], {"class_name": "Dense"}, {"class_name": "Dense", "config": {}}, [["d", 0, 0]], "Lambda",
    {"class_name": "__lambda__", "config": {"value": "x"}}, "a" * 5000, [[[[[[[[]]]]]]]], "relu", [10**9, 10**9, 10**9],
)  # fmt: skip


def flipped_bytes(data: bytes, rng: Random) -> bytes:
    """Some bytes are others."""
    out = bytearray(data)
    for _ in range(int(rng.choice([1, 2, 5, 20, 100, 500]))):
        out[int(rng.integers(len(out)))] = int(rng.integers(256))
    return bytes(out)


def flipped_in_one_place(data: bytes, rng: Random) -> bytes:
    """Bytes in one place of 64 are others: a header rather than values."""
    out, start = bytearray(data), int(rng.integers(max(1, len(data) - 64)))
    for _ in range(int(rng.choice([1, 3, 10, 40]))):
        place = min(start + int(rng.integers(64)), len(out) - 1)
        out[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))
    return bytes(out)


def cut(data: bytes, rng: Random) -> bytes:
    """The end is missing."""
    return data[: int(rng.integers(len(data)))]


def moved(data: bytes, rng: Random) -> bytes:
    """A stretch is missing, there twice, or zero."""
    start, length = int(rng.integers(len(data))), int(rng.choice([1, 8, 100, 1000]))
    part = data[start : start + length]
    middle = (b"", part + part, bytes(len(part)), rng.bytes(len(part)))[int(rng.integers(4))]
    return data[:start] + middle + data[start + length :]


def large_number(data: bytes, rng: Random) -> bytes:
    """Eight bytes are a number that is too large, negative or zero: a length or an address."""
    place = int(rng.integers(max(1, len(data) - 8)))
    width = int(rng.choice([2, 4, 8]))
    number = (int(rng.choice([0, 1, 2, 3])) and int(rng.choice([255, 1 << 15, 1 << 20, (1 << 31) - 1]))) or 0xFFFF
    return data[:place] + number.to_bytes(8, "little")[:width] + data[place + width :]


BLIND: tuple[Damage, ...] = (flipped_bytes, flipped_in_one_place, flipped_in_one_place, cut, moved, large_number)


def damaged_json(value: Any, rng: Random) -> Any:
    """Return a copy of a JSON value with one part of it replaced by junk, left out, doubled or changed a little."""
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        return (value + 1, value - 1, -value, value * 1000, value * 10**9, value + 0.5)[int(rng.integers(6))]
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return JUNK[int(rng.integers(len(JUNK)))]
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    chosen, other = (keys[int(rng.integers(len(keys)))] for _ in range(2))
    copy = value.copy()
    action = rng.random()
    if action < 0.08:
        del copy[chosen]
    elif action < 0.14:
        copy[chosen], copy[other] = copy[other], copy[chosen]
    elif action < 0.17 and isinstance(copy, list):
        copy.append(copy[chosen])
    else:
        copy[chosen] = damaged_json(value[chosen], rng)
    return copy


def _damaged_text(text: bytes, rng: Random) -> bytes:
    """JSON with one to three parts damaged; sometimes the text itself."""
    if rng.random() < 0.15:
        return BLIND[int(rng.integers(len(BLIND)))](text, rng)
    value = json.loads(text)
    for _ in range(int(rng.integers(1, 4))):
        value = damaged_json(value, rng)
    return json.dumps(value).encode()


def json_part(data: bytes, rng: Random) -> bytes:
    """A JSON document with parts that are others."""
    return _damaged_text(data, rng)


def zip_member(data: bytes, rng: Random) -> bytes:
    """A member of a zip file is damaged, and its checksum is right; or it is missing, there twice, or misnamed."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        names = old.namelist()
        chosen, action = names[int(rng.integers(len(names)))], rng.random()
        for name in names:
            content, title = old.read(name), name
            if name == chosen:
                if action < 0.05:
                    continue
                if action < 0.1:
                    title = str(rng.choice(["../x", "/x", "x", name.upper(), "a/b"]))
                else:
                    content = _damaged_member(name, content, rng)
            packed = zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED
            new.writestr(title, content, packed)
    return made.getvalue()


def _damaged_member(name: str, content: bytes, rng: Random) -> bytes:
    if name.endswith(".json") and content:
        return _damaged_text(content, rng)
    if name.endswith(".h5") and rng.random() < 0.6:
        return hdf5_part(content, rng)
    if name.endswith(".npy") and rng.random() < 0.5:
        return _npy_header(content, rng)
    return BLIND[int(rng.integers(len(BLIND)))](content, rng)


def _npy_header(content: bytes, rng: Random) -> bytes:
    text = content[10:128]
    words = [
        (b"(", b"(9" * int(rng.integers(1, 9))),
        (b"<f", b"|O"),
        (b"<f4", b">i8"),
        (b"{", b"{" * 50),
        (b"False", b"7"),
    ]
    old, new = words[int(rng.integers(len(words)))]
    return content[:10] + text.replace(old, new, 1)[: len(text)] + content[128:]


def hdf5_part(data: bytes, rng: Random) -> bytes:
    """An object of an HDF5 file is another, and the file is well formed."""
    import h5py

    made = io.BytesIO(data)
    with h5py.File(made, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(int(rng.integers(1, 3))):
            chosen = file[names[int(rng.integers(len(names)))]] if names and rng.random() < 0.8 else file
            if len(chosen.attrs) and rng.random() < 0.6:
                _damage_attribute(chosen, rng)
            elif chosen != file and chosen.name in chosen.parent:
                _damage_object(file, chosen, rng)
    return made.getvalue()


def _damage_attribute(node: Any, rng: Random) -> None:
    key = list(node.attrs)[int(rng.integers(len(node.attrs)))]
    value = node.attrs[key]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and value.startswith("{") and rng.random() < 0.9:
        node.attrs[key] = _damaged_text(value.encode(), rng).decode("utf-8", "replace")
        return
    junk: list[Any] = [1, -5, 2.5, "", "junk", np.zeros(0), np.arange(5), np.array([b"x", b"y"]), b"\xff\xfe", 10**9]
    action = rng.random()
    if action < 0.2:
        del node.attrs[key]
    else:
        node.attrs[key] = junk[int(rng.integers(len(junk)))]


def _damage_object(file: Any, node: Any, rng: Random) -> None:
    import h5py

    name, action = node.name, int(rng.integers(12))
    shape, kind = getattr(node, "shape", None) or (), getattr(node, "dtype", np.dtype("f4"))
    if action == 10 and shape and kind.kind in "fiu":
        values = node[()]
        values.reshape(-1)[int(rng.integers(values.size))] = np.nan if kind.kind == "f" else 100
        node[()] = values
        return
    if isinstance(node, h5py.Dataset) and h5py.check_string_dtype(kind) and rng.random() < 0.8 and shape == ():
        text = node[()]
        if text.startswith(b"{"):
            text = _damaged_text(text, rng)
        else:
            text = rng.choice([b"", b"junk", b"LIF", b"Threshold", b"NIRGraph", b"Input", b"Affine"])
        node[()] = text
        return
    del file[name]
    match action:
        case 0:
            pass
        case 1:
            file[name] = h5py.SoftLink("/" if rng.random() < 0.5 else name)
        case 2:
            file[name] = h5py.ExternalLink("/etc/passwd", "/x")
        case 3:
            file.create_dataset(name, (1 << 20, 1 << 20), "f4", chunks=(256, 256), compression="gzip")
        case 4:
            file.create_group(name)
        case 5:
            file[name] = np.zeros(
                [int(n) + int(rng.integers(-1, 2)) for n in shape if n > 1] or (2,),
                kind if kind.kind in "fiu" else "f4",
            )
        case 6:
            file[name] = np.ones(shape, str(rng.choice(["f8", "i8", "?", "c8", "f2", ">f4", "u1"])))
        case 7:
            file[name] = "text"
        case 8:
            file[name] = np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
        case 9:
            file.create_dataset(
                name, shape, "f4", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)] if shape else None
            )
        case 10:
            file[name] = np.float32(rng.choice([np.nan, np.inf, -1.0, 1e30]))
        case 11:
            file[name] = file["/"]


OF_SUFFIX: dict[str, tuple[Damage, ...]] = {
    ".h5": (hdf5_part,),
    ".strop": (hdf5_part,),
    ".nir": (hdf5_part,),
    ".keras": (zip_member,),
    ".npz": (zip_member,),
    ".json": (json_part,),
}


def damaged(data: bytes, suffix: str, rng: Random) -> bytes:
    """Return a damaged copy of a file's bytes; half of the damages know the format of the suffix, if one does."""
    knowing = OF_SUFFIX.get(suffix, ())
    chosen = knowing if knowing and rng.random() < 0.6 else BLIND
    return chosen[int(rng.integers(len(chosen)))](data, rng)
