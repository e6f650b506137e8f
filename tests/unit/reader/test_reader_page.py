"""docs/model-files.md is what the reader's own tables say."""

from __future__ import annotations

import runpy
from pathlib import Path

from strop.reader.coverage import FORMATS, OTHER_ROWS, layer_rows

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_the_page_is_up_to_date() -> None:
    script = runpy.run_path(str(DOCS / "render_model_files.py"))
    page = (DOCS / "model-files.md").read_text(encoding="utf-8")
    assert page == script["page"](), "run: python docs/render_model_files.py"


def test_every_layer_that_the_lowering_promises_is_on_the_page() -> None:
    promised = set()
    for line in (DOCS / "layers.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[1] in ("carried", "vanishes"):
            promised |= {name.strip("` ") for name in cells[0].split(",")}
    import keras

    classes = {name: getattr(keras.layers, name) for name in promised if hasattr(keras.layers, name)}
    names = {cls.__name__ for cls in classes.values() if isinstance(cls, type)} - {"InputLayer"}
    assert len(names) > 80
    assert names <= {row.name for row in layer_rows()}


def test_reasons_name_known_formats() -> None:
    for row in (*layer_rows(), *OTHER_ROWS):
        assert set(row.reasons) <= set(FORMATS)
        assert any(row.readable(file_format) for file_format in FORMATS)
