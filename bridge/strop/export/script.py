"""`write_script`: copies a target's `run.py` into a standalone folder, with the `standalone.py` that it imports."""

from __future__ import annotations

from pathlib import Path

_SHARED = Path(__file__).parent / "templates" / "standalone.py"


def write_script(folder: Path, template: Path, *others: Path) -> None:
    """Copy `template` as `run.py`, and beside it `standalone.py`, and `others` under their own names.

    Parameters
    ----------
    folder : path
        The standalone folder.
    template : path
        A script that builds and runs the network with one simulator; it imports nothing of strop, but `standalone`.
    others : paths
        What it imports besides.
    """
    for source, name in ((template, "run.py"), (_SHARED, "standalone.py"), *((path, path.name) for path in others)):
        (folder / name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
