"""Folders of Zarr: arrays whose rows are read when they are asked for. What could unpickle is refused before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from strop.errors import DataError, ExtraMissingError
from strop.graph.capacity import require_memory
from strop.graph.files.rows import Rows

# Codecs that make numbers of bytes and no more; numcodecs also brings `pickle`, which would run what a file says.
_CODECS = {
    *("adler32", "astype", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset"),
    *("fletcher32", "gzip", "jenkins_lookup3", "lz4", "lzma", "packbits", "quantize", "sharding_indexed", "shuffle"),
    *("transpose", "zlib", "zstd"),
}


def is_zarr(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is one of Zarr, of format 2 or 3."""
    return any(os.path.isfile(os.path.join(path, name)) for name in ("zarr.json", ".zgroup", ".zarray"))


class ZarrFolder:
    """The arrays of a folder of Zarr: `files`, and each by its name; of a single array, "x".

    Raises
    ------
    DataError
        If the folder cannot be read.
    ExtraMissingError
        If zarr is not installed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import zarr
        except ImportError as error:
            raise ExtraMissingError(
                f"data {path} is a folder of Zarr, and zarr is missing ({error}). Install it with: pip install "
                "'strop[zarr]'"
            ) from error
        self._path = os.fspath(path)
        try:
            # Metadata that were gathered from the arrays may say other things than those of the arrays.
            store = zarr.storage.LocalStore(self._path, read_only=True)
            opened = zarr.open(store, mode="r", use_consolidated=False)
            self._arrays = {"x": opened} if isinstance(opened, zarr.Array) else dict(opened.arrays())
        except Exception as error:  # zarr raises errors of many types
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"data {path} cannot be read as Zarr: {reason[:300]}") from error
        self.files = list(self._arrays)

    def __getitem__(self, name: str) -> ZarrRows:
        """Return an array.

        Raises
        ------
        DataError
            If it needs a codec that is not known, or its pieces do not fit into memory.
        """
        array = self._arrays[name]
        for codec in _codecs(array.metadata.to_dict()):
            if codec.removeprefix("numcodecs.") not in _CODECS:
                raise DataError(f"data {self._path}: {name!r} needs the codec {codec!r}, which strop does not open")
        if not array.shape:
            raise DataError(f"data {self._path}: {name!r} is a single value")
        return ZarrRows(array, f"{name!r} of {self._path}")


class ZarrRows(Rows):
    """An array of Zarr; whatever goes wrong is a `DataError`."""

    def __init__(self, array: Any, where: str) -> None:
        super().__init__(tuple(array.shape), array.dtype)
        self._array, self._where = array, where

    def __getitem__(self, rows: slice) -> Any:
        """Return some rows."""
        count = len(range(*rows.indices(len(self))))
        require_memory(f"reading {self._where}", self._array.nbytes // max(1, len(self)) * count)
        try:
            return self._array[rows]
        except Exception as error:  # of zarr, numcodecs, or the file system
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DataError(f"data {self._where} cannot be read: {reason[:300]}") from error


def _codecs(metadata: dict[str, Any]) -> Iterator[str]:
    """Yield the names of all codecs of an array, those within shards too."""
    for key in ("codecs", "index_codecs", "filters", "compressor"):
        found = metadata.get(key) or ()
        for codec in (found,) if isinstance(found, dict) else found:
            named = codec if isinstance(codec, dict) else codec.get_config()
            yield str(named.get("name", named.get("id")))
            yield from _codecs(named.get("configuration") or {})
