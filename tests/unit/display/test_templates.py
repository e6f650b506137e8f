"""The templates: everything is escaped, nothing is left undefined, and Python holds no HTML."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import jinja2
import pytest
from pages import Page, full_report

import strop.display
from strop.display import render_page, render_training_page, rendering

ROOM = Path(strop.display.__file__).parent
TEMPLATES = sorted((ROOM / "templates").rglob("*.j2"))
BITES = '<i title="x">&amp;\''


def test_every_text_of_a_report_is_escaped() -> None:
    report = full_report()
    backends = {f"{BITES}{name}": dataclasses.replace(own, version=BITES) for name, own in report.backends.items()}
    text = render_page(dataclasses.replace(report, model=BITES, backends=backends, notes=[BITES], silent=[BITES]))
    assert "<i " not in text
    page = Page(text)
    assert page.texts["h1"] == [BITES]
    assert BITES in page.texts["li"]
    assert sum(BITES in cell for cell in page.texts["th"]) >= 4
    assert page.texts["dd"].count(BITES) == 2


def test_every_text_of_a_training_is_escaped() -> None:
    logs = {"loss": [1.0], f"accuracy {BITES}": [0.5], f"sharpness_{BITES}": [0.5], f"empty {BITES}": [None]}
    text = render_training_page(
        logs, title=BITES, settings={BITES: BITES}, units={f"a_{BITES}": {"neurons": 1, BITES: 2}}
    )
    assert "<i " not in text
    page = Page(text)
    assert page.texts["h1"] == [BITES]
    assert page.texts["h3"] == ["loss", f"accuracy {BITES}", f"empty {BITES}"]
    assert BITES in page.texts["dt"]
    assert BITES in page.texts["dd"]
    assert BITES in page.texts["text"]
    assert sum(BITES in str(given.get("aria-label")) for _, given in page.elements) == 2


def test_a_name_that_nobody_filled_in_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'report' is undefined"):
        rendering.render("verification.html.j2", title="a page without its report")


def test_no_template_switches_escaping_off() -> None:
    assert len(TEMPLATES) > 8
    for path in TEMPLATES:
        assert not re.search(r"\|\s*safe|autoescape|Markup", path.read_text(encoding="utf-8")), path


def test_python_holds_no_html_and_marks_only_our_own_files_as_safe() -> None:
    files = sorted(ROOM.glob("*.py"))
    assert len(files) > 8
    for path in files:
        source = path.read_text(encoding="utf-8")
        assert source.count("Markup(") == (2 if path.name == "rendering.py" else 0), path
        nodes = list(ast.walk(ast.parse(source)))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                assert not re.search(r"<[a-z/!]|&[a-z]+;", node.value), (path, node.value)


@pytest.mark.parametrize(("folder", "joined"), [("style", rendering.STYLES), ("script", rendering.SCRIPTS)])
def test_every_file_of_styles_and_script_is_on_the_page_once(folder: str, joined: tuple[str, ...]) -> None:
    assert sorted(joined) == sorted(path.name for path in (ROOM / folder).iterdir())
    for name in joined:
        content = (ROOM / folder / name).read_text(encoding="utf-8")
        # Neither may end its element before its time.
        assert "</" not in content
        assert "<!--" not in content
        assert len(content.splitlines()) < 250
