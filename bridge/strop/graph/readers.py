"""Graph file formats: strop's own `.strop`, and those that installed packages can read (`.nir`).

Formats are found through the entry-point group `strop.readers`: the name is the suffix of its files without the dot,
the value a callable that takes a path and returns a `Graph`. The bridge knows of none but its own.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from strop.errors import EXTRAS, BackendError, BackendMissingError
from strop.graph.files.layout import SUFFIX
from strop.graph.files.read import is_graph_file
from strop.graph.network import Graph

GROUP = "strop.readers"

GraphReader = Callable[[Path], Graph]


def reader_suffixes() -> list[str]:
    """Return the suffixes of the files that `read_graph` takes, strop's own first."""
    return [SUFFIX, *sorted({f".{entry.name}" for entry in entry_points(group=GROUP)})]


def read_graph(path: Path) -> Graph | None:
    """Return the graph that the file at `path` holds, or None if it is no file of a graph by its suffix and content.

    >>> read_graph(Path("net.nir"))

    Raises
    ------
    ModelFileError
        If the file is damaged or holds no graph.
    UnsupportedLayerError
        If a graph of another format holds what strop's threshold neurons cannot do.
    BackendMissingError
        If the package that reads this format is not installed.
    BackendError
        If two distributions have registered the same suffix.
    """
    if path.suffix == SUFFIX or is_graph_file(path):
        return Graph.load(path)
    entries = {entry.value: entry for entry in entry_points(group=GROUP) if f".{entry.name}" == path.suffix.lower()}
    if not entries:
        return None
    if len(entries) > 1:
        raise BackendError(f"files {path.suffix} are read by more than one package: {', '.join(sorted(entries))}")
    return _load(next(iter(entries.values())), path)


def _load(entry: EntryPoint, path: Path) -> Graph:
    try:
        reader: GraphReader = entry.load()
        return reader(path)
    except ImportError as error:
        extra = EXTRAS.get(entry.name)
        advice = f". Install it with: pip install 'strop[{extra}]'" if extra else ""
        raise BackendMissingError(f"{path} cannot be read, {error}{advice}") from error
