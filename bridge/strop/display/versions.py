"""The versions that a page lists: of strop, Python and the packages that compute; nothing is imported to find out."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("numpy", "scipy", "keras", "tensorflow", "tensorflow-cpu")


def versions() -> list[tuple[str, str]]:
    """Return name and version of everything that is installed, and the platform."""
    found = [("strop", version("strop")), ("Python", platform.python_version())]
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return [*found, ("platform", f"{platform.system()} {platform.machine()}")]
