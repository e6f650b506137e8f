"""Templates filled with plain data: hands on a whole page as text, or writes it into a folder as one file.

The templates (`templates/*.html.j2`) escape whatever is put into them; a name that nobody filled in is an error. Style
sheets and script are our own files; each page holds them, and its content security policy names their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from strop.display import wording
from strop.errors import DataError
from strop.graph.files.atomic import naming, write_text

# Joined in this order. Scripts share one function's scope: a file may use what those before it define.
STYLES = ("page.css", "charts.css", "player.css", "media.css")
SCRIPTS = ("data.js", "population.js", "raster.js", "cards.js", "player.js", "start.js")


def render(template: str, *, title: str, data: Any = None, **values: Any) -> str:
    """Return a whole page that loads nothing: styles and script are inside, and the policy forbids everything else.

    Parameters
    ----------
    template : str
        The name of a template that extends `page.html.j2`.
    title : str
    data : JSON value, optional
        For the script; without data there is no script.
    **values
        What the template shows: text, numbers, lists, mappings, dataclasses.
    """
    style, script = _styles(), "" if data is None else _scripts()
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            version=version("strop"),
            # Our own files: the only text that is not escaped.
            style=Markup(style),
            style_hash=_hash(style),
            script=Markup(script),
            script_hash=_hash(script),
            data=data,
            **values,
        )
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("strop.display"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.policies["json.dumps_function"] = _compact
    made.policies["json.dumps_kwargs"] = {}
    made.filters |= {
        "cut": wording.cut,
        "count": wording.count,
        "percent": wording.percent,
        "seconds": wording.seconds,
    }
    made.globals["plural"] = wording.plural
    return made


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def _styles() -> str:
    return "\n".join(_file("style", name) for name in STYLES)


def _scripts() -> str:
    files = "\n".join(_file("script", name) for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{files}}})();\n'


def _file(folder: str, name: str) -> str:
    return resources.files("strop.display").joinpath(folder, name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def check_folder(folder: str | Path) -> Path:
    """Return the folder of a report as a path, or raise `DataError` if a file stands in its place."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"a report needs a folder, {folder} is a file")
    return folder


def write_into(folder: str | Path, name: str, text: str) -> Path:
    """Write a page into `folder`, which is made if it is not there, whole or not at all; return its path."""
    folder = check_folder(folder)
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    write_text(path, text)
    return path
