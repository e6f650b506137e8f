"""Graph file formats: strop's own `.strop`, and those that installed packages can read (`.nir`).

Formats are found through the entry-point group `strop.readers`: the name is the suffix of its files without the dot,
the value a callable that takes a path, and options of its own, and returns a `Graph`. The bridge knows of none but its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from pathlib import Path
from typing import Any

from strop.errors import EXTRAS, BackendError, BackendMissingError, ModelFileError
from strop.graph.files.layout import SUFFIX
from strop.graph.files.read import is_graph_file
from strop.graph.network import Graph

GROUP = "strop.readers"

GraphReader = Callable[..., Graph]


def reader_suffixes() -> list[str]:
    """Return the suffixes of the files that `read_graph` takes, strop's own first."""
    return [SUFFIX, *sorted({f".{entry.name}" for entry in entry_points(group=GROUP)})]


def read_graph(path: Path, **options: Any) -> Graph | None:
    """Return the graph that the file at `path` holds, or None if it is no file of a graph by its suffix and content.

    >>> read_graph(Path("net.nir"), dt=1e-4)

    Parameters
    ----------
    path : Path
    options
        Of the format's reader; strop's own has none.

    Raises
    ------
    ModelFileError
        If the file is damaged or holds no graph, or its format has no such option.
    UnsupportedLayerError
        If a graph of another format holds what strop's threshold neurons cannot do.
    BackendMissingError
        If the package that reads this format is not installed.
    BackendError
        If two distributions have registered the same suffix.
    """
    if path.suffix == SUFFIX or is_graph_file(path):
        _check_options(path, options, ())
        return Graph.load(path)
    entries = {entry.value: entry for entry in entry_points(group=GROUP) if f".{entry.name}" == path.suffix.lower()}
    if not entries:
        _check_options(path, options, ())
        return None
    if len(entries) > 1:
        raise BackendError(f"files {path.suffix} are read by more than one package: {', '.join(sorted(entries))}")
    return _load(next(iter(entries.values())), path, options)


def _check_options(path: Path, options: dict[str, Any], known: Iterable[str]) -> None:
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ModelFileError(
            f"{path}: the option {unknown[0]!r} says how to read another format (.nir); leave it out for this one"
        )


def _load(entry: EntryPoint, path: Path, options: dict[str, Any]) -> Graph:
    try:
        reader: GraphReader = entry.load()
        if options:
            _check_options(path, options, signature(reader).parameters)
        return reader(path, **options)
    except ImportError as error:
        extra = EXTRAS.get(entry.name)
        advice = f". Install it with: pip install 'strop[{extra}]'" if extra else ""
        raise BackendMissingError(f"{path} cannot be read, {error}{advice}") from error
