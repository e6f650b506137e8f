"""Two contracts for import-linter that it does not have itself; pyproject.toml uses them, `lint-imports` runs them."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


def _in(module: str, packages: list[str]) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in packages)


class AcyclicModulesContract(Contract):
    """No cycle among modules, lazy imports and imports of a module's own package included.

    `acyclic_siblings`, which comes with import-linter, looks at neighbours in one package. It does not see a module
    that imports from the `__init__` of the package that it lies in, which imports it.
    """

    type_name = "acyclic_modules"
    packages = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        inside = {module for module in graph.modules if _in(module, self.packages)}
        arrows = {module: graph.find_modules_directly_imported_by(module) & inside for module in inside}
        try:
            TopologicalSorter(arrows).prepare()
        except CycleError as error:
            return ContractCheck(kept=False, metadata={"cycle": error.args[1][::-1]})
        return ContractCheck(kept=True)

    def render_broken_contract(self, check: ContractCheck) -> None:
        output.print_error("A cycle of imports: " + " -> ".join(check.metadata["cycle"]))


class AllowedImportsContract(Contract):
    """What is not allowed is forbidden: `importer` imports nothing of `library` but the packages in `allowed`.

    `forbidden`, which comes with import-linter, lists what is forbidden: a new package would be allowed.
    """

    type_name = "allowed_imports"
    importer = fields.StringField()
    library = fields.StringField()
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        found = sorted(
            (module, imported)
            for module in graph.modules
            if _in(module, [self.importer])
            for imported in graph.find_modules_directly_imported_by(module)
            if _in(imported, [self.library]) and not _in(imported, self.allowed)
        )
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for module, imported in check.metadata["found"]:
            output.print_error(f"{module} -> {imported} is none of the allowed imports: {', '.join(self.allowed)}")
