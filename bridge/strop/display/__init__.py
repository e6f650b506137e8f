"""Reports as one self-contained HTML page: of a verification, and of a training.

Each page is a single file without any request to anywhere: data, styles and script are inside, and a content security
policy forbids the rest. `strop verify --report`, `strop demo --report` and `strop train --report` write them.

Python prepares plain data (`verification_page`, `training_page`, `wave`, `histogram`, `epoch_charts`); the templates in
`templates/` turn it into HTML and escape it; `rendering` adds the files of `style/` and `script/`.
"""

from __future__ import annotations

from pathlib import Path

from strop.display.rendering import check_folder, write_into
from strop.display.training_page import render_training_page, write_training_page
from strop.display.verification_page import render_page
from strop.verification.report import Report

__all__ = ["check_folder", "render_page", "render_training_page", "write_page", "write_training_page"]


def write_page(report: Report, folder: str | Path) -> Path:
    """Write `report.html` into `folder` (made if it is not there) and return its path.

    >>> report = strop.verify(model, frames, labels, backends=("brian2",), evidence=True)
    >>> write_page(report, "report")

    Parameters
    ----------
    report : Report
        Without `evidence=True`, the page has neither wave, raster nor margins.
    folder : path

    Raises
    ------
    DataError
        If `folder` is a file.
    """
    return write_into(folder, "report.html", render_page(report))
