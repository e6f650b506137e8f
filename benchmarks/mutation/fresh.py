"""strop imported anew with one module changed, in a process whose Keras models are there already."""

from __future__ import annotations

import ast
import importlib
import importlib.machinery
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

# What Keras models that were built before hold on to: their classes must stay the same.
_KEPT = ("strop.keras", "strop.graph", "strop.errors", "strop.cli.noise")
_RENEWED = "strop.graph.rounding"


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, file: str, code: CodeType) -> None:
        super().__init__(name, file)
        self.code = code

    def get_code(self, fullname: str) -> CodeType:
        return self.code


class _Finder(MetaPathFinder):
    def __init__(self, name: str, file: Path, code: CodeType) -> None:
        self.name, self.file, self.code = name, str(file), code

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> Any:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(
            fullname,
            self.file,
            loader=_Loader(fullname, self.file, self.code),
            submodule_search_locations=[str(Path(self.file).parent)] if self.file.endswith("__init__.py") else None,
        )


def import_changed(module: str, file: Path, tree: ast.Module) -> None:
    """Forget strop and import it again, with `tree` for the source of `module`."""
    code = compile(tree, str(file), "exec", dont_inherit=True)
    sys.meta_path.insert(0, _Finder(module, file, code))
    import_again()


def import_again() -> None:
    """Forget strop, but for what Keras models hold on to, and import it again."""
    for name in [n for n in sys.modules if n.split(".")[0] in ("strop", "strop_backends")]:
        if name.startswith(_RENEWED) or not any(name == kept or name.startswith(f"{kept}.") for kept in _KEPT):
            del sys.modules[name]
    importlib.import_module("strop")


def file_of(module: str) -> Path:
    """Return the source file of a module of strop, which is not imported for that."""
    import strop

    base = Path(strop.__file__).parent.joinpath(*module.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


def modules_of(*names: str) -> list[str]:
    """Return dotted names of modules; a package stands for all modules in it."""
    import strop

    root = Path(strop.__file__).parent
    found: list[str] = []
    for name in names:
        file = file_of(name)
        files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
        for f in files:
            parts = f.relative_to(root).with_suffix("").parts
            found.append(".".join(("strop", *(p for p in parts if p != "__init__"))))
    return list(dict.fromkeys(found))
