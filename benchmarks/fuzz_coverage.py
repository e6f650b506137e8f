"""Coverage-guided fuzzing of one reader with atheris (libFuzzer): what the bytes reach decides how they are changed.

    pip install atheris
    PYTHONPATH=tests/support python benchmarks/fuzz_coverage.py npz -max_total_time=3600 [-seed=1]

The reader is `npz`, `certificate`, `protobuf` (a SavedModel's), `strop`, `nir` or `h5`; further arguments are
libFuzzer's. Any exception but a `StropError` stops it and leaves the bytes in a file `crash-...`.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

READERS = ("npz", "certificate", "protobuf", "strop", "nir", "h5")


def main() -> None:
    """Fuzz the reader that is named first."""
    reader = sys.argv[1] if len(sys.argv) > 1 else ""
    if reader not in READERS:
        raise SystemExit(f"{__doc__}")
    with atheris.instrument_imports(include=["strop", "strop_backends", "zipfile"]):
        from fuzz_files import open_file, write_seeds

        from strop.errors import StropError
        from strop.reader.savedmodel import protobuf

    kept = tempfile.mkdtemp(prefix="strop-fuzz-")
    file = Path(kept) / f"file{'.json' if reader == 'certificate' else f'.{reader}'}"
    corpus = Path(kept) / "corpus"
    corpus.mkdir()
    if reader != "protobuf":
        for number, seed in enumerate(write_seeds(Path(kept) / "good")["h5-keras3" if reader == "h5" else reader]):
            (corpus / str(number)).write_bytes(seed.read_bytes())

    def one(data: bytes) -> None:
        if reader == "protobuf":
            with contextlib.suppress(ValueError):  # what its callers turn into a ModelFileError
                for number in (1, 2, 7):
                    for message in protobuf.messages(data, number):
                        list(protobuf.fields(message))
            return
        file.write_bytes(data)
        with contextlib.suppress(StropError):
            open_file(reader, file)

    atheris.Setup([sys.argv[0], str(corpus), *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
