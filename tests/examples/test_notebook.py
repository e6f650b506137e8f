"""The notebook runs as written, in a kernel of its own, and what it shows is kept in the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="the notebook needs nbclient and ipykernel")
nbclient = pytest.importorskip("nbclient", reason="the notebook needs nbclient and ipykernel")
for _name in ("ipykernel", "keras", "brian2", "networkx", "sklearn"):
    pytest.importorskip(_name, reason=f"the notebook needs {_name}")

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "digits.ipynb"


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(notebook: Any, kind: str) -> list[str]:
    """Return what the cells show in one kind of media."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [output.data[kind] for output in outputs if "data" in output and kind in output.data]


def printed(notebook: Any, stream: str) -> str:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == stream)


# The kernel is another process; what the client's own libraries warn of is no matter of the notebook.
@pytest.mark.filterwarnings("default")
def test_the_notebook_runs_and_proves_what_it_says(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    html = "\n".join(shown(notebook, "text/html"))
    assert "Graph digits_convnet" in html
    assert html.count("digits_convnet: passed") == 2
    assert "Certificate for spinnaker: proved for all inputs" in html
    assert html.count("<td>proved</td>") >= 5
    (picture,) = shown(notebook, "image/svg+xml")
    assert "max_pooling2d" in picture
    # The bars that have run are gone.
    assert "<progress" not in html
    assert "decisions changed" in printed(notebook, "stdout")
    assert printed(notebook, "stderr") == ""


def test_the_file_holds_what_its_cells_show() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert shown(notebook, "image/svg+xml")
    assert "proved for all inputs" in "".join(shown(notebook, "text/html"))
    assert printed(notebook, "stderr") == ""
    assert NOTEBOOK.stat().st_size < 200_000
