"""Photographs the top of a report at its second step: the picture of docs/report.md. Needs playwright and a Chromium.

strop train digits --out digits.keras
strop quantize digits.keras --target spinnaker --out quantised.keras
strop verify quantised.keras --data digits.npz --backends reference,brian2,nengo,pynn-nest --report page
PYTHONPATH=tests/support python docs/make_report_png.py page/report.html docs/report.png
"""

from __future__ import annotations

from pathlib import Path

import click
from chromium import installed_chromium
from playwright.sync_api import sync_playwright


@click.command()
@click.argument("page", type=click.Path(path_type=Path, exists=True))
@click.argument("target", type=click.Path(path_type=Path))
def main(page: Path, target: Path) -> None:
    """Write TARGET, a picture of PAGE down to the end of the wave."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=installed_chromium())
        view = browser.new_page(viewport={"width": 1060, "height": 900})
        view.goto(page.resolve().as_uri())
        view.locator("#start").click()
        for _ in range(2):
            view.locator("#forward").click()
        bottom = view.locator("#wave").bounding_box()
        assert bottom is not None
        height = bottom["y"] + bottom["height"] + view.evaluate("window.scrollY")
        view.evaluate("window.scrollTo(0, 0)")
        view.screenshot(path=target, full_page=True, clip={"x": 0, "y": 0, "width": 1060, "height": height})
        browser.close()


if __name__ == "__main__":
    main()
