"""Backends that are registered as those of another distribution, for processes that find them by name alone."""

from __future__ import annotations

import os
from pathlib import Path


def install(folder: Path, distribution: str, module: str, source: str, entry_points: dict[str, str]) -> None:
    """Lay a distribution out as pip does: the module, and a .dist-info folder that names its entry points."""
    info = folder / f"{distribution.replace('-', '_')}-0.1.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 0.1\n")
    lines = [f"{name} = {value}" for name, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[strop.backends]", *lines, ""]))


def python_path(*folders: Path) -> str:
    """Return PYTHONPATH with more folders in front; the strop that is tested may be found by it, too."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])
