"""HDF5 is read in a process of its own: plain arrays come back, crashes are errors, bombs and links are refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from strop.errors import CapacityError, ModelFileError
from strop.graph.files.hdf5 import (
    Array,
    DamagedHDF5Error,
    Group,
    as_hdf5,
    is_hdf5,
    process,
    read_root_attributes,
    read_tree,
)

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals")


def written(path: Path, fill: Callable[[Any], Any]) -> Path:
    with h5py.File(path, "w") as file:
        fill(file)
    return path


def everything(file: Any) -> None:
    file.attrs["text"] = "Ünicode"
    file.attrs["bytes"] = b"old"
    file.attrs["names"] = np.array([b"conv/kernel:0", b"b"])
    file.attrs["version"] = 3
    file.attrs["fraction"] = float("inf")
    file.attrs["list"] = np.arange(4, dtype=np.int16)
    file.attrs["nothing"] = h5py.Empty("f4")
    group = file.create_group("a/b")
    group.create_dataset("packed", data=np.arange(5000.0), compression="gzip", shuffle=True, fletcher32=True)
    group.create_dataset("lzf", data=np.arange(5000, dtype=np.int8), compression="lzf")
    group["half"] = np.arange(6, dtype="f2").reshape(2, 3)
    group["big"] = np.arange(3, dtype=">f4")
    group["truth"] = np.array([True, False])
    group["number"] = np.float32(0.25)
    group["none"] = np.zeros((0, 3))
    group["word"] = "LIF"
    group["edges"] = [("a", "b"), ("b", "c")]
    group["half"].attrs["dtype"] = "float16"


def test_groups_attributes_and_arrays_come_back_as_they_are(tmp_path: Path) -> None:
    path = written(tmp_path / "all.h5", everything)
    for tree in (read_tree(path), copy_of(read_tree(path), tmp_path)):
        assert tree.attributes["text"] == "Ünicode"
        assert tree.attributes["bytes"] == "old"
        assert list(tree.attributes["names"]) == [b"conv/kernel:0", b"b"]
        assert tree.attributes["version"] == 3
        assert tree.attributes["fraction"] == float("inf")
        assert tree.attributes["list"].tolist() == [0, 1, 2, 3]
        assert tree.attributes.get("nothing") is None
        with h5py.File(path) as file:
            for name in ("packed", "lzf", "half", "big", "truth", "number", "none"):
                array, stored = tree.find(f"a/b/{name}"), file[f"a/b/{name}"]
                assert isinstance(array, Array)
                assert array.dtype == stored.dtype, name
                np.testing.assert_array_equal(array.values, stored[()])
                assert not array.values.flags.writeable
        assert tree.find("a/b/word").text == "LIF"  # type: ignore[union-attr]
        assert tree.find("a/b/edges").values.tolist() == [[b"a", b"b"], [b"b", b"c"]]  # type: ignore[union-attr]
        assert tree.find("a/b/half").attributes["dtype"] == "float16"  # type: ignore[union-attr]
        assert tree.find("a/nothing") is None
    assert read_tree(path).find("a/b/packed").filters == ("shuffle", "gzip", "fletcher32")  # type: ignore[union-attr]


def copy_of(tree: Group, folder: Path) -> Group:
    """Return what is read from the copy that strop writes of a tree."""
    (folder / "copy.h5").write_bytes(as_hdf5(tree).getvalue())
    return read_tree(folder / "copy.h5")


def test_the_root_alone_and_groups_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "all.h5", everything)
    assert read_root_attributes(path)["version"] == 3
    assert read_tree(path, leave_out=("a",)).children == {}


def test_signature_behind_a_user_block(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=1024) as file:
        file.attrs["version"] = 3
    (tmp_path / "text").write_text("none" * 1000)
    assert is_hdf5(tmp_path / "block.h5")
    assert not is_hdf5(tmp_path / "text")
    assert not is_hdf5(tmp_path / "missing")
    assert read_root_attributes(tmp_path / "block.h5")["version"] == 3


def nested(file: Any, depth: int) -> None:
    for _ in range(depth):
        file = file.create_group("g")


def inside_itself(file: Any) -> None:
    file.create_group("a")["again"] = file["/"]


def bomb(file: Any) -> None:
    file.create_dataset("zeros", data=np.zeros(1 << 20), chunks=(1 << 16,), compression="gzip")


def foreign_filter(file: Any) -> None:
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((10,))
    creation.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    h5py.h5d.create(file.id, b"zstd", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((10,)), creation)


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "soft link": (lambda file: file.__setitem__("x", h5py.SoftLink("/y")), "/x is a link"),
    "external link": (
        lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/y")),
        r"/x is a link into another file \('/etc/passwd'\)",
    ),
    "external values": (
        lambda file: file.create_dataset("x", (4,), "u1", external=[("/etc/hostname", 0, h5py.h5f.UNLIMITED)]),
        "the values of /x lie in another file",
    ),
    "virtual": (
        lambda file: file.create_virtual_dataset("x", h5py.VirtualLayout((1,), "f4")),
        "/x is a virtual dataset",
    ),
    "filter": (foreign_filter, "/zstd needs the filter 32015"),
    "nesting": (lambda file: nested(file, 150), "nests groups more than 100 deep"),
    "cycle": (inside_itself, "inside itself or linked a second time"),
    "attribute": (
        lambda file: file.attrs.create("x", np.zeros(9_000_000), dtype="f8"),
        "attribute 'x' of / is larger than 64 MiB",
    ),
    "list in an attribute": (lambda file: file.attrs.__setitem__("x", np.zeros(70_000)), "a list of 70,000 numbers"),
    "values that are not there": (
        lambda file: file.create_dataset("x", (1 << 30, 1 << 20), "f4", chunks=(1024, 1024)),
        "/x declares 4,503,599,627,370,496 bytes of values and stores 0",
    ),
    "bomb": (bomb, r"a compression bomb, at /zeros"),
    "records": (
        lambda file: file.__setitem__("x", np.zeros(2, dtype=[("a", "i4")])),
        "/x holds values of the type .* no number and no text",
    ),
    "named type": (lambda file: file.__setitem__("x", np.dtype("f4")), "/x is neither a group nor a dataset"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_model_needs_is_refused_by_name(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill, message = REFUSED[what]
    if what == "bomb":
        monkeypatch.setattr(process, "_ROOM", 1 << 20)
    with h5py.File(tmp_path / "bad.h5", "w", libver="latest") as file:
        fill(file)
    with pytest.raises(ModelFileError, match=message) as caught:
        read_tree(tmp_path / "bad.h5")
    assert str(caught.value).startswith(f"{tmp_path / 'bad.h5'}: ")
    assert not isinstance(caught.value, DamagedHDF5Error)


def test_too_many_objects_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from strop.graph.files.hdf5 import child

    monkeypatch.setattr(child, "MOST_OBJECTS", 50)
    written(tmp_path / "many.h5", lambda file: [file.create_group(str(n)) for n in range(60)])
    with h5py.File(tmp_path / "many.h5") as file, pytest.raises(child.Refused, match="more than 50 objects"):
        child.Reader([], 1000).group(file)


def test_arrays_that_do_not_fit_into_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "w.h5", lambda file: file.create_dataset("w", data=np.zeros(100)))
    monkeypatch.setenv("STROP_MEMORY_LIMIT", "500")
    with pytest.raises(CapacityError, match=r"reading w of shape \(100,\)"):
        read_tree(path)
    monkeypatch.delenv("STROP_MEMORY_LIMIT")
    assert read_tree(path).find("w").shape == (100,)  # type: ignore[union-attr]


def test_values_that_hdf5_cannot_unpack(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random(1000)
    path = written(tmp_path / "w.h5", lambda file: file.create_dataset("w", data=noise, compression="gzip"))
    with h5py.File(path) as file:
        start = file["w"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[start + 10 : start + 40] = bytes(30)
    path.write_bytes(data)
    with pytest.raises(DamagedHDF5Error, match="/w: Can't synchronously read data"):
        read_tree(path)


@posix
@pytest.mark.parametrize("how", [signal.SIGSEGV, signal.SIGXCPU])
def test_a_crash_of_the_other_process_is_an_error_and_the_next_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    path = written(tmp_path / "good.h5", everything)
    ended = tmp_path / "child.py"
    source = Path(process._SCRIPT).read_text()
    changed = source.replace(
        "            described = reader.group(file)\n", f"            os.kill(os.getpid(), {int(how)})\n"
    )
    assert changed != source
    ended.write_text(changed)
    with monkeypatch.context() as patch:
        patch.setattr(process, "_SCRIPT", ended)
        process._PROCESS.end()
        words = "too long or too much" if how == signal.SIGXCPU else rf"crashes the HDF5 library \({how.name}\)"
        for _ in range(2):
            with pytest.raises(DamagedHDF5Error, match=words):
                read_tree(path)
    process._PROCESS.end()
    assert read_tree(path).attributes["version"] == 3


@posix
def test_a_file_that_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "good.h5", everything)
    slow = tmp_path / "child.py"
    source = Path(process._SCRIPT).read_text()
    slow.write_text(source.replace("described = reader.group(file)", "__import__('time').sleep(60)"))
    with monkeypatch.context() as patch:
        patch.setattr(process, "_SCRIPT", slow)
        patch.setattr(process, "_PATIENCE", 0.3)
        process._PROCESS.end()
        begin = time.perf_counter()
        with pytest.raises(DamagedHDF5Error, match=r"not done with it after 0\.3 s"):
            read_tree(path)
        assert time.perf_counter() - begin < 30
    assert read_tree(path).attributes["version"] == 3


DAMAGED = Path(__file__).parents[2] / "data" / "damaged"


@pytest.mark.parametrize("path", sorted(DAMAGED.glob("*.h5")), ids=lambda path: path.stem)
def test_files_that_crashed_or_stopped_the_library(path: Path) -> None:
    with pytest.raises(DamagedHDF5Error):
        read_tree(path)


def test_several_threads_read_at_once(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{n}.h5", lambda file, n=n: file.__setitem__("x", np.full(1000, n))) for n in range(6)]
    found: dict[int, Any] = {}

    def read(n: int) -> None:
        found[n] = read_tree(paths[n]).find("x")

    threads = [threading.Thread(target=read, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((found[n].values == n).all() for n in range(6))


@posix
def test_a_fork_of_the_user_s_has_a_process_of_its_own(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from strop.graph.files.hdf5 import process, read_tree\n"
        "read_tree(sys.argv[1])\n"
        "first = process._PROCESS.process.pid\n"
        "if os.fork() == 0:\n"
        "    read_tree(sys.argv[1])\n"
        "    os._exit(0 if process._PROCESS.process.pid != first else 1)\n"
        "_, status = os.wait()\n"
        "assert status == 0 and read_tree(sys.argv[1]).attributes['version'] == 3\n"
        "print(first)\n"
    )
    path = written(tmp_path / "good.h5", everything)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-W", "ignore", "-c", code, str(path)]
    run = subprocess.run(words, capture_output=True, text=True, env=environment, check=True, timeout=120)
    assert run.stderr == ""
    with pytest.raises(ProcessLookupError):  # it ends with the process that started it
        os.kill(int(run.stdout), 0)
