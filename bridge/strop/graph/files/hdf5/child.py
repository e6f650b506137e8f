"""The process that opens HDF5 files: a script by itself, which imports nothing of strop's.

It reads requests from its standard input and answers on its standard output. Both are a length (8 bytes, little
endian) and a JSON document; an answer that describes a file is followed by the bytes of its arrays, in order. Where
the system can fork, every file is read by a fork of its own, so that the import of h5py is paid once and no file sees
what another left behind; elsewhere the process ends after one file.

`argv[1]` is a JSON list of the folders to import from.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

# Filters of HDF5 and h5py themselves; any other makes HDF5 look for a plug-in library and load it.
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}
MOST_OBJECTS = 100_000
DEEPEST = 100
LARGEST_ATTRIBUTE = 64 << 20
LARGEST_TEXT = 256 << 20
# No filter packs more than 1032 values into the room of one: what declares more has none stored.
PACKED = 1100
SMALL = 1 << 20


class Refused(Exception):
    """The file holds what no model file needs."""


class Reader:
    """Walks one open file; `arrays` gets the datasets in the order in which the description names them."""

    def __init__(self, leave_out: list[str], most: int) -> None:
        self.leave_out = leave_out
        self.left = most
        self.most = most
        self.objects = 0
        self.groups: set[Any] = set()
        self.arrays: list[Any] = []

    def group(self, group: Any, depth: int = 0) -> dict[str, Any]:
        import h5py

        where = group.name
        if depth > DEEPEST:
            raise Refused(f"it nests groups more than {DEEPEST} deep ({where[:60]}...)")
        info = h5py.h5o.get_info(group.id)
        if (info.fileno, info.addr) in self.groups:
            raise Refused(f"the group {where} is inside itself or linked a second time")
        self.groups.add((info.fileno, info.addr))
        children = {}
        for name in group:
            self.count()
            if depth == 0 and name in self.leave_out:
                continue
            link, path = group.get(name, getlink=True), f"{where.rstrip('/')}/{name}"
            if isinstance(link, h5py.ExternalLink):
                raise Refused(f"{path} is a link into another file ({link.filename!r})")
            if not isinstance(link, h5py.HardLink):
                raise Refused(f"{path} is a link")
            node = group[name]
            if isinstance(node, h5py.Group):
                children[name] = self.group(node, depth + 1)
            elif isinstance(node, h5py.Dataset):
                children[name] = self.dataset(node, path)
            else:
                raise Refused(f"{path} is neither a group nor a dataset")
        return {"attributes": self.attributes(group), "children": children}

    def count(self) -> None:
        self.objects += 1
        if self.objects > MOST_OBJECTS:
            raise Refused(f"it holds more than {MOST_OBJECTS:,} objects")

    def attributes(self, node: Any) -> dict[str, Any]:
        found = {}
        for name in node.attrs:
            self.count()
            where = f"attribute {name!r} of {node.name}"
            attribute = node.attrs.get_id(name)
            if _declared(attribute) > LARGEST_ATTRIBUTE:
                raise Refused(f"the {where} is larger than {LARGEST_ATTRIBUTE >> 20} MiB")
            found[name] = self.value(node.attrs[name], attribute.dtype, where)
        return found

    def dataset(self, dataset: Any, where: str) -> dict[str, Any]:
        packed = _filters(dataset, where)
        attributes = self.attributes(dataset)
        if dataset.shape is None:
            return {"attributes": attributes, "empty": True}
        size, stored = _sizes(dataset, where)
        self.left -= size
        if self.left < 0:
            raise Refused(
                f"its arrays unpack to more than {self.most:,} bytes, which a file of this size should not "
                f"(a compression bomb, at {where})"
            )
        import h5py

        text = h5py.check_string_dtype(dataset.dtype)
        if text is not None:
            if stored > LARGEST_TEXT:
                raise Refused(f"{where} is a text of more than {LARGEST_TEXT >> 20} MiB")
            return {"attributes": attributes, **self.value(dataset[()], dataset.dtype, where)}
        _refuse_what_is_no_number(dataset.dtype, where)
        self.arrays.append(dataset)
        return {"attributes": attributes, "dtype": dataset.dtype.str, "shape": dataset.shape, "filters": packed}

    def value(self, value: Any, kind: Any, where: str) -> dict[str, Any]:
        """Describe an attribute, or a dataset of texts; `{}` for what is neither text nor number."""
        import h5py
        import numpy as np

        text = h5py.check_string_dtype(kind)
        if text is not None:
            if isinstance(value, h5py.Empty):
                return {"empty": True}
            items = np.asarray(value, dtype=object)
            flat = [_latin(item) for item in items.reshape(-1)]
            return {"text": flat, "shape": items.shape, "fixed": text.length is not None}
        if getattr(kind, "kind", "") not in "biuf" or isinstance(value, h5py.Empty):
            return {}
        numbers = np.asarray(value)
        if numbers.size > 65536:
            raise Refused(f"the {where} is a list of {numbers.size:,} numbers")
        return {"numbers": _numbers(numbers), "dtype": numbers.dtype.str, "shape": numbers.shape}


def _filters(dataset: Any, where: str) -> list[str]:
    """Return the names of a dataset's filters; refuse values that lie elsewhere, or need a plug-in."""
    if dataset.is_virtual:
        raise Refused(f"{where} is a virtual dataset, whose values lie in other files")
    if dataset.external:
        raise Refused(f"the values of {where} lie in another file")
    creation = dataset.id.get_create_plist()
    filters = [creation.get_filter(n) for n in range(creation.get_nfilters())]
    for number, _, _, name in filters:
        if number not in FILTERS:
            raise Refused(f"{where} needs the filter {number} ({name!r}), which HDF5 does not bring")
    return [FILTERS[number] for number, _, _, _ in filters]


def _sizes(dataset: Any, where: str) -> tuple[int, int]:
    """Return the bytes that a dataset declares, and those that the file stores for it."""
    size, stored = _declared(dataset.id), dataset.id.get_storage_size()
    if size > stored * PACKED + SMALL:
        raise Refused(f"{where} declares {size:,} bytes of values and stores {stored:,}")
    return size, stored


def _refuse_what_is_no_number(kind: Any, where: str) -> None:
    if kind.kind not in "biufc" and not (kind.kind == "V" and kind.names is None and kind.subdtype is None):
        raise Refused(f"{where} holds values of the type {kind}, which is no number and no text")


def table(file: Any) -> dict[str, Any]:
    """Describe the datasets at the root of a file; of one whose rows cannot be read, why."""
    found: dict[str, Any] = {}
    for number, name in enumerate(file):
        if number == MOST_OBJECTS:
            raise Refused(f"it holds more than {MOST_OBJECTS:,} objects")
        try:
            dataset = root_dataset(file, name)
        except Refused as error:
            found[name] = {"refused": str(error)}
        else:
            if dataset is not None:
                found[name] = {"dtype": dataset.dtype.str, "shape": dataset.shape}
    return found


def root_dataset(file: Any, name: str) -> Any:
    """Return a dataset of numbers at the root of a file; None for a group."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise Refused(f"{name} is a link")
    node = file[name]
    if not isinstance(node, h5py.Dataset):
        return None
    _filters(node, name)
    if not node.shape:
        raise Refused(f"{name} is a single value")
    _refuse_what_is_no_number(node.dtype, name)
    _sizes(node, name)
    return node


def rows(file: Any, name: str, start: int, stop: int) -> Any:
    """Return some rows of a dataset at the root of a file."""
    import numpy as np

    dataset = root_dataset(file, name)
    if dataset is None:
        raise Refused(f"{name} is a group")
    bytes_of_a_row = _declared(dataset.id) // max(1, dataset.shape[0])
    limit((1 << 30) + 3 * bytes_of_a_row * (stop - start))
    return np.ascontiguousarray(dataset[start:stop], dtype=dataset.dtype)


def _numbers(values: Any) -> list[Any]:
    # JSON has neither infinity nor NaN.
    plain = values.astype("f8") if values.dtype.kind == "f" else values
    return [item.hex() if isinstance(item, float) else item for item in plain.reshape(-1).tolist()]


def _latin(item: Any) -> str:
    """Return the bytes of a text, each as one character, for JSON."""
    return (item.encode("utf-8", "surrogateescape") if isinstance(item, str) else bytes(item)).decode("latin-1")


def _declared(node: Any) -> int:
    size = int(node.get_type().get_size())
    for length in node.shape or ():
        size *= int(length)
    return size


@contextlib.contextmanager
def opened(path: str, member: str | None, most: int) -> Iterator[Any]:
    """Open an HDF5 file, or one that is a member of a zip file."""
    import h5py

    if member is None:
        with h5py.File(path, "r") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo(member).file_size > most:
            raise Refused(f"{member} in it unpacks to more than {most:,} bytes (a zip bomb)")
        content = archive.read(member)
    with h5py.File(io.BytesIO(content), "r") as file:
        yield file


def limit(bytes_more: int, seconds: int | None = None) -> None:
    """Let this process take so many bytes beyond what it has, and so much time of the CPU; where the system can."""
    try:
        import resource
    except ImportError:
        return
    with contextlib.suppress(OSError, ValueError):
        with open("/proc/self/statm") as file:
            now = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + bytes_more, resource.getrlimit(resource.RLIMIT_AS)[1]))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if seconds is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def answer(request: dict[str, Any], out: Any) -> None:
    """Read the file of a request and write its description and its arrays."""
    import numpy as np

    limit(1 << 30, request["seconds"])
    reader, begun = Reader(request["leave_out"], request["most"]), False
    try:
        with opened(request["path"], request["member"], request["most"]) as file:
            if request["root_only"]:
                send(out, {"attributes": reader.attributes(file), "children": {}})
                return
            if "rows" in request:
                values = rows(file, *request["rows"])
                send(out, {"dtype": values.dtype.str, "shape": values.shape})
                out.write(values.reshape(-1).view(np.uint8).data if values.size else b"")
                return
            if "table" in request:
                send(out, {"table": table(file)})
                return
            described = reader.group(file)
            send(out, described)
            begun = True
            for dataset in reader.arrays:
                limit((1 << 30) + 3 * _declared(dataset.id))
                values = np.asarray(dataset[()], dtype=dataset.dtype, order="C").reshape(dataset.shape)
                out.write(b"+")
                out.write(values.reshape(-1).view(np.uint8).data if values.size else b"")
    except Exception as error:  # h5py raises errors of many types
        if begun:
            out.write(b"-")
        send(out, {"refused": str(error)} if isinstance(error, Refused) else {"damaged": _reason(error)})


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "reading it takes more memory than a file of this size should"
    return " ".join(str(error).split()) or type(error).__name__


def send(out: Any, document: dict[str, Any]) -> None:
    """Write one JSON document with its length before it."""
    text = json.dumps(document).encode()
    out.write(len(text).to_bytes(8, "little") + text)
    out.flush()


def received(source: Any) -> dict[str, Any] | None:
    """Return the next request, or None where there are no more."""
    head = source.read(8)
    if len(head) < 8:
        return None
    request: dict[str, Any] = json.loads(source.read(int.from_bytes(head, "little")))
    return request


def main() -> None:
    """Answer requests until the other side closes the pipe, or a file has ended the process that read it."""
    sys.path[:] = json.loads(sys.argv[1])
    import h5py  # noqa: F401  # every fork has it

    # Nothing may lie in a buffer when the process forks.
    source, out = io.FileIO(0), sys.stdout.buffer
    out.write(b"+")  # ready
    out.flush()
    while (request := received(source)) is not None:
        if not hasattr(os, "fork"):
            answer(request, out)
            out.flush()
            return
        child = os.fork()
        if child == 0:
            answer(request, out)
            out.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            # Nobody can tell how much of an answer was written: whoever waits for the rest sees the pipe close.
            sys.exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else 1)


if __name__ == "__main__":
    main()
