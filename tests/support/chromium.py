"""Finding a Chromium for the tests of the report; run as a script, it has Playwright fetch one if there is none.

The search: STROP_CHROMIUM, the PATH, then Playwright's own. Where none can be had, the tests skip and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# Fetching may hang where a network swallows packets: the tests then skip instead.
_SECONDS = 600


def installed_chromium() -> str | None:
    """Return the Chromium of STROP_CHROMIUM or of the PATH."""
    return os.environ.get("STROP_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


def main() -> None:
    """Fetch Playwright's Chromium if no other is installed; a failure is told and ends nothing."""
    if found := installed_chromium():
        print(f"Chromium: {found}")
        return
    try:
        subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=True, timeout=_SECONDS)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"no Chromium could be fetched, the tests that need one will skip: {error}")


if __name__ == "__main__":
    main()
