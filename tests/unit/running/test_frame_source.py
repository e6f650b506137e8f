"""Frames chunk by chunk: every source gives the same chunks, none holds more than it must, and none loses a frame."""

from __future__ import annotations

import pickle
import weakref
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frame_sources import (
    COUNT,
    GRAPH,
    SIZE,
    Lazy,
    Loader,
    X,
    Y,
    assert_same,
    batches,
    in_dask,
    in_hdf5,
    in_zarr,
    lazy,
    memory_mapped,
    report_of,
    wanted_chunks,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from strop.costs.inspection import inspect
from strop.errors import BackendError, DataError, StropError
from strop.graph import Dense, Graph, Input, Population
from strop.running.frame_source import frame_source
from strop.running.lazy_rows import LazyRows
from strop.running.simulate import simulate
from strop.verification.explain import explain
from strop.verification.verify import verify

LAZY: dict[str, Callable[[Path, np.ndarray], Any]] = {
    "memory-mapped": memory_mapped,
    "hdf5": in_hdf5,
    "zarr": in_zarr,
    "dask": in_dask,
    "sliced alone": lazy,
}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("strop.verification.verify", "strop.verification.explain", "strop.running.simulate"):
        monkeypatch.setattr(import_module(module), "chunk_size", lambda graph: SIZE)
    monkeypatch.setattr("strop.costs.activity.chunk_size", lambda graph: SIZE)


# The same from every source -------------------------------------------------------------------------------------------


def test_chunks_of_an_array() -> None:
    chunks = wanted_chunks()
    assert [(c.number, c.start, c.count) for c in chunks] == [(n, 10 * n, 10) for n in range(4)] + [(4, 40, 7)]
    np.testing.assert_array_equal(np.concatenate([c.own["x"] for c in chunks]), X)
    np.testing.assert_array_equal(
        np.concatenate([c.frames["x"] for c in chunks]), X.astype(np.float32) / np.float32(255)
    )
    assert_same([pickle.loads(pickle.dumps(chunk)) for chunk in chunks], chunks)


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.several_extras) if kind == "dask" else kind for kind in LAZY]
)
def test_lazy_arrays_give_the_same_chunks_and_report(kind: str, tmp_path: Path, small_chunks: None) -> None:
    x, y = LAZY[kind](tmp_path, X), LAZY[kind](tmp_path, Y)
    source = frame_source(GRAPH, x, y)
    assert source.count == COUNT
    found = list(source.chunks(SIZE))
    assert_same(found, wanted_chunks())
    assert all(type(chunk.own["x"]) is np.ndarray for chunk in found)
    assert_same([pickle.loads(pickle.dumps(chunk)) for chunk in found], wanted_chunks())
    wanted = report_of(X, Y)
    for frames, labels in ((x, y), (x, Y), ((x, y), None), ([x, y], None), ({"x": x}, {"out0": y}), ({"1": x}, [*Y])):
        assert report_of(frames, labels) == wanted
    assert report_of(x) == report_of(X) != wanted


@pytest.mark.parametrize("sizes", [(47,), (7,), (1,), (13, 3, 11), (10,), (20,)])
def test_streams_give_the_same_chunks_and_report(sizes: tuple[int, ...], small_chunks: None) -> None:
    source = frame_source(GRAPH, batches(*sizes))
    assert source.count is None
    assert_same(list(source.chunks(SIZE)), wanted_chunks())
    assert source.count == source.given == COUNT
    assert report_of(batches(*sizes)) == report_of(X, Y)
    assert report_of(batches(*sizes, labelled=False), Y) == report_of(X, Y)
    assert report_of(batches(*sizes, labelled=False), Lazy(Y)) == report_of(X, Y)
    assert report_of(batches(*sizes, labelled=False)) == report_of(X)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.integers(1, 25), st.booleans(), st.booleans())
def test_the_batches_of_a_stream_do_not_matter(lengths: list[int], size: int, labelled: bool, one_by_one: bool) -> None:
    count = sum(lengths)
    x, y = np.arange(6 * count, dtype=np.float32).reshape(count, 6), np.arange(count) % 3
    stops = np.cumsum(lengths)

    def stream() -> Iterator[Any]:
        for start, stop in zip(stops - lengths, stops, strict=True):
            if one_by_one:
                yield from zip(x[start:stop], y[start:stop], strict=True) if labelled else x[start:stop]
            else:
                yield (x[start:stop], y[start:stop]) if labelled else x[start:stop]

    if count == 0:
        with pytest.raises(DataError, match="gave no frames"):
            list(frame_source(GRAPH, stream()).chunks(size))
        return
    source, whole = frame_source(GRAPH, stream()), frame_source(GRAPH, x, y if labelled else None)
    assert_same(list(source.chunks(size)), list(whole.chunks(size)))
    assert source.notes == whole.notes


def test_several_inputs_of_different_kinds(tmp_path: Path) -> None:
    nodes = [Input("left", (6,)), Input("right", (2, 2, 1))]
    links = [("left", "a", Dense(np.ones((6, 1)))), ("right", "b", Dense(np.ones((1, 1)), (2, 2)))]
    populations = [Population("a", (1,), 0.5, 0.0), Population("b", (2, 2, 1), 0.5, 0.0)]
    graph = Graph.from_nodes(nodes, populations, links, (), ["a", "b"])
    right = np.random.default_rng(0).random((COUNT, 4)).astype(np.float32)
    wanted = list(frame_source(graph, (X, right)).chunks(SIZE))
    assert wanted[0].frames["right"].shape == (SIZE, 2, 2, 1)
    mapped = memory_mapped(tmp_path, right)
    for frames in (
        (Lazy(X), mapped),
        {"right": Lazy(right), "left": X},
        ((X[n : n + 9], right[n : n + 9]) for n in range(0, COUNT, 9)),
    ):
        assert_same(list(frame_source(graph, frames).chunks(SIZE)), wanted)
    with pytest.raises(DataError, match=r"different numbers of frames: \{'left': 47, 'right': 46\}"):
        frame_source(graph, (Lazy(X), mapped[:46]))


@pytest.mark.parametrize("frames", [lambda: Lazy(X), lambda: batches(13, labelled=False)])
def test_simulate_explain_and_inspect_take_them(frames: Callable[[], Any], small_chunks: None) -> None:
    ours, theirs = simulate(GRAPH, frames(), "reference"), simulate(GRAPH, X, "reference")
    np.testing.assert_array_equal(ours.output, theirs.output)
    assert ours.notes == theirs.notes
    assert inspect(GRAPH, frames()).to_dict() == inspect(GRAPH, X).to_dict()
    for frame in (0, 25, 46):
        found = explain(GRAPH, frames(), "reference", frame)
        assert found.to_dict() == explain(GRAPH, X, "reference", frame).to_dict()
    with pytest.raises(DataError, match="there is no frame 47: the data hold 47 frames, 0 to 46"):
        explain(GRAPH, frames(), "reference", 47)


# What is read, and when -----------------------------------------------------------------------------------------------


def test_lazy_arrays_are_read_once_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = Lazy(X)
    list(frame_source(GRAPH, values).chunks(SIZE))
    assert values.asked == [(0, 47)]
    monkeypatch.setattr("strop.running.lazy_rows._BLOCK", 25 * 6)
    values = Lazy(X)
    assert_same(list(frame_source(GRAPH, values, Y).chunks(SIZE)), wanted_chunks())
    assert values.asked == [(0, 25), (20, 45), (40, 47)]
    values = Lazy(X)
    assert frame_source(GRAPH, values).chunk_with(33, SIZE).start == 30
    assert values.asked == [(30, 40)]


def test_of_a_stream_a_chunk_and_an_element_are_held() -> None:
    alive: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
    most = 0

    class Batch(np.ndarray):
        pass

    def stream() -> Iterator[Any]:
        nonlocal most
        for number in range(200):
            batch = np.zeros((7, 6), np.float32).view(Batch)
            alive[number] = batch
            most = max(most, len(alive))
            yield batch
            del batch

    assert sum(chunk.count for chunk in frame_source(GRAPH, stream()).chunks(SIZE)) == 1400
    assert most <= 3


def test_a_loader_may_fill_the_same_array_again() -> None:
    buffer, labels = np.empty((3, 6), np.uint8), np.empty(3, int)

    def stream() -> Iterator[Any]:
        for start in range(0, 45, 3):
            buffer[:], labels[:] = X[start : start + 3], Y[start : start + 3]
            yield buffer, labels

    wanted = list(frame_source(GRAPH, X[:45], Y[:45]).chunks(SIZE))
    assert_same(list(frame_source(GRAPH, stream()).chunks(SIZE)), wanted)


def test_notes_are_those_of_all_frames_together() -> None:
    x = np.zeros((COUNT, 6))
    x[-1, 0] = 200.0
    wanted = verify(GRAPH, x, backends=["reference"]).notes
    assert "float64 frames from 0 to 200 used as they are, though nothing in the model scales them" in wanted[0]
    for frames in (Lazy(x), iter(x), (x[n : n + 9] for n in range(0, COUNT, 9))):
        assert verify(GRAPH, frames, backends=["reference"]).notes == wanted


def test_types_of_a_stream_are_joined_as_those_of_its_frames_together() -> None:
    x = np.random.default_rng(5).random((COUNT, 6))
    first, second = x[:20], x[20:].astype(np.float32)
    wanted = verify(GRAPH, np.concatenate([first, second]), backends=["reference"])
    found = verify(GRAPH, iter([first, second]), backends=["reference"])
    assert found.notes == wanted.notes == ["input 'x': float64 frames used as they are"]
    assert [layer.spikes for layer in found.backends["reference"].layers] == [
        layer.spikes for layer in wanted.backends["reference"].layers
    ]


def test_what_has_no_array_of_its_own_is_sliced_too() -> None:
    class Sliced:
        shape, dtype = X.shape, X.dtype

        def __len__(self) -> int:
            return COUNT

        def __getitem__(self, rows: slice) -> np.ndarray:
            assert isinstance(rows, slice)
            return X[rows]

    assert_same(list(frame_source(GRAPH, Sliced(), Y).chunks(SIZE)), wanted_chunks())


def test_values_in_memory_are_checked_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.zeros((COUNT, 6), np.float32)
    x[33, 2] = np.nan
    with pytest.raises(DataError, match=r"frames for input 'x' hold values that are not finite"):
        frame_source(GRAPH, x)
    for frames in (Lazy(x), (x[n : n + 9] for n in range(0, COUNT, 9))):
        source = frame_source(GRAPH, frames)
        with pytest.raises(DataError, match=r"frames for input 'x' \(30 to 39\) hold values that are not finite"):
            list(source.chunks(SIZE))
        assert source.given == 30
    wrong = Y.copy()
    wrong[41] = 7
    with pytest.raises(DataError, match="labels: 7 at index 41 is not one of the 3 classes"):
        frame_source(GRAPH, X, wrong)
    for source in (frame_source(GRAPH, X, Lazy(wrong)), frame_source(GRAPH, zip(X, wrong, strict=True))):
        with pytest.raises(DataError, match="labels: 7 at index 41 is not one of the 3 classes"):
            list(source.chunks(SIZE))
    rows = np.eye(3)[Y]
    rows[22] = 0.5
    with pytest.raises(DataError, match="row 22 is not one-hot"):
        list(frame_source(GRAPH, X, Lazy(rows)).chunks(SIZE))


# What is wrong --------------------------------------------------------------------------------------------------------


def with_wrong_shape() -> Iterator[Any]:
    yield from batches(10)
    yield np.zeros((3, 5)), np.zeros(3, int)


def wrong_one(number: int, element: Any) -> Callable[[], Iterator[Any]]:
    """Whole batches, with another element in one's place."""
    return lambda: (element if n == number else given for n, given in enumerate(batches(10)))


@pytest.mark.parametrize(
    ("frames", "labels", "message"),
    [
        (with_wrong_shape, None, r"element 5 of the generator has the shape \(3, 5\): neither a frame of input 'x'"),
        (wrong_one(2, np.zeros((3, 5))), None, r"element 2 of the generator has the shape \(3, 5\): neither"),
        (wrong_one(3, (X[:4], Y[:3])), None, "element 3 of the generator holds 4 frames and 3 labels"),
        (wrong_one(1, X[:4]), None, "element 1 of the generator has no labels, unlike those before it"),
        (wrong_one(1, (X[:4], np.eye(3)[:1])), None, r"labels differ from element to element.*element 1"),
        (wrong_one(1, (X[:4] / 255, Y[:4])), None, "element 1 of the generator holds float64, those before it uint8"),
        (lambda: iter([]), None, "the list_iterator gave no frames; what has been read through once gives nothing"),
        (lambda: iter([X[:0], X[:0]]), None, "the list_iterator gave no frames"),
        (lambda: Loader(5, 4), None, "Loader says that it has 5 elements, and gave 4, so frames are missing"),
        (lambda: Loader(3, 4), None, "Loader says that it has 3 elements, and gave more"),
        (lambda: batches(9, labelled=False), Y[:46], "labels must be one per frame: 46 are given, and there are more"),
        (lambda: batches(9, labelled=False), np.arange(48) % 3, "one per frame: 48 are given for 47 frames"),
        (
            lambda: Lazy(X, (50, 6)),
            None,
            r"'x' \(0 to 49\) came as uint8 \(47, 6\); .*Lazy, uint8 \(50, 6\)",
        ),
        (lambda: Lazy(X), Lazy(Y[:40]), "labels must be one per frame: 40 are given for 47 frames"),
        (lambda: X, Lazy(Y, (48,)), "labels must be one per frame: 48 are given for 47 frames"),
        (lambda: Lazy(X[:, :5]), None, r"frames for input 'x' have the shape \(47, 5\), the network takes \(n, 6\)"),
        (lambda: Lazy(X[:0]), None, "frames for input 'x' are empty"),
        (lambda: Lazy(X, (float("nan"), 6)), None, "do not say how many they are"),  # type: ignore[arg-type]
        (lambda: Lazy(X.astype(str)), None, "have dtype <U"),
        (lambda: [Lazy(X), Lazy(X), Lazy(X), Lazy(X)], None, "are a list of 4 arrays"),
    ],
)
def test_one_error_says_what_is_wrong_and_where(
    frames: Callable[[], Any], labels: Any, message: str, small_chunks: None
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        verify(GRAPH, frames(), labels, backends=["reference"])
    assert "\n" not in str(caught.value)


def test_a_stream_is_read_once() -> None:
    source = frame_source(GRAPH, batches(13))
    list(source.chunks(SIZE))
    with pytest.raises(DataError, match="the generator has been read already"):
        list(source.chunks(SIZE))
    used = batches(13)
    list(used)
    with pytest.raises(DataError, match="gave no frames"):
        frame_source(GRAPH, used)


def test_what_a_stream_raises_in_mid_run_is_not_hidden() -> None:
    def broken() -> Iterator[Any]:
        yield X[:25]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        verify(GRAPH, broken(), backends=["reference"])


def test_a_file_that_is_closed_or_damaged_is_one_error(tmp_path: Path) -> None:
    dataset = in_hdf5(tmp_path, X)
    dataset.file.close()
    with pytest.raises(DataError, match=r"frames for input 'x' cannot be made an array of \(h5py\..*Dataset\)"):
        frame_source(GRAPH, dataset)
    path = tmp_path / "2.h5"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x78\x5e", b"\x00\x00"))  # how the parts that gzip packed begin
    h5py = pytest.importorskip("h5py")
    with (
        h5py.File(path) as file,
        pytest.raises(DataError, match=r"\(0 to 46\) cannot be read from the h5py\..*Dataset"),
    ):
        list(frame_source(GRAPH, file["x"]).chunks(SIZE))


def test_a_backend_that_loses_frames_is_noticed_by_simulate(monkeypatch: pytest.MonkeyPatch) -> None:
    from strop.running.reference import _ReferenceRunner as ReferenceRunner

    honest = ReferenceRunner.run
    monkeypatch.setattr(
        ReferenceRunner, "run", lambda self, signals: {name: r[1:] for name, r in honest(self, signals).items()}
    )
    with pytest.raises(BackendError, match=r"should give spikes of .* as bool \(47, \d+\); got bool \(46"):
        simulate(GRAPH, X, "reference")


def test_an_array_that_changes_its_type_is_noticed() -> None:
    values = Lazy(X)
    values.dtype = np.dtype(np.float32)
    with pytest.raises(DataError, match=r"came as uint8 \(5, 6\).*float32 \(47, 6\), should give \(5, 6\)"):
        LazyRows(values, "frames").rows(5, 10)


@pytest.mark.parametrize("times", [0, 2])
def test_chunks_that_are_lost_or_come_twice_are_noticed(
    times: int, monkeypatch: pytest.MonkeyPatch, small_chunks: None
) -> None:
    module = import_module("strop.verification.verify")
    honest = module.run_job

    def run_job(*given: Any) -> Iterator[Any]:
        for partial in honest(*given):
            yield from [partial] * (times if partial.start == 20 else 1)

    monkeypatch.setattr(module, "run_job", run_job)
    for frames in (X, Lazy(X), batches(13)):
        with pytest.raises(StropError, match="a chunk was lost, or came twice"):
            verify(GRAPH, frames, backends=["reference"])


@pytest.mark.parametrize(("place", "times"), [(20, 0), (20, 2), (40, 0)])
def test_a_simulation_and_a_count_notice_it_too(
    place: int, times: int, monkeypatch: pytest.MonkeyPatch, small_chunks: None
) -> None:
    for name in ("running.simulate", "costs.activity"):
        module = import_module(f"strop.{name}")
        honest = module.run_job

        def run_job(*given: Any, honest: Any = honest) -> Iterator[Any]:
            for number, part in enumerate(honest(*given)):
                yield from [part] * (times if number * SIZE == place else 1)

        monkeypatch.setattr(module, "run_job", run_job)
    with pytest.raises(StropError, match="lost, or came twice"):
        simulate(GRAPH, X, "reference")
    with pytest.raises(StropError, match="of 47 frames were counted: chunks were lost, or came twice"):
        inspect(GRAPH, X)
