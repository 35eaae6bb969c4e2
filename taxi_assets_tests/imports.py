"""Parse which module of the package imports what, without importing anything.

Used by `test_architecture.py`, which checks the rules, and by `docs/architecture.py`, which draws the picture.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = "taxi_assets"

LAYERS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("datasets", "sinks"),  # sinks know tables, not taxi datasets
    ("publisher", "keys"),
    ("settings", "lake"),  # the lake keeps months by the contract of a sink
    ("status", "reports"),
    ("assets",),
    ("automation",),
    ("executors", "resources", "history", "terminal"),
    ("definitions", "worker"),
    ("cli",),
    ("__main__",),
)
"""The packages and modules right below the package, lowest first. One may import what is in a lower row, and itself."""

Imports = Mapping[str, frozenset[str]]
"""By module (`sinks.contract`, without the package's name): the dotted names that it imports."""


def parse_package(folder: Path = REPOSITORY / PACKAGE) -> Imports:
    """Parse every module of a package: the dotted names that each imports, also in functions and for type checkers."""
    return {
        module_name(path, folder): frozenset(imported_names(path.read_text(encoding="utf-8")))
        for path in sorted(folder.rglob("*.py"))
    }


def module_name(path: Path, folder: Path) -> str:
    """Return the dotted name of a module below the package; empty for the package's own `__init__`."""
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(source: str) -> Iterator[str]:
    """Yield the dotted names that a module's source imports, each with the imported attribute: `a.b.c` of `from a.b import c`.

    Raises:
        ValueError: a relative import, which this package does not use.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or not node.module:
                raise ValueError(f"line {node.lineno}: relative import; write the full name of the module")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def internal(imports: Imports, package: str = PACKAGE) -> dict[str, set[str]]:
    """Return the modules of the package that each module imports."""
    graph: dict[str, set[str]] = {}
    for module, names in imports.items():
        graph[module] = {longest(name, imports, package) for name in names if name.split(".")[0] == package} - {module}
    return graph


def longest(name: str, imports: Imports, package: str) -> str:
    """Return the module that a dotted name of the package is in."""
    own = name.removeprefix(package).removeprefix(".")
    while own not in imports:
        own = own.rpartition(".")[0]
    return own


def external(imports: Imports, package: str = PACKAGE) -> dict[str, set[str]]:
    """Return the dotted names of other packages that each module imports."""
    return {module: {n for n in names if n.split(".")[0] != package} for module, names in imports.items()}


def top(module: str) -> str:
    """Return the package or module right below `taxi_assets` that a module belongs to."""
    return module.partition(".")[0]


def row(module: str) -> int:
    """Return the layer of a module, 0 for the lowest.

    Raises:
        LookupError: the module is in no row of LAYERS.
    """
    for number, names in enumerate(LAYERS):
        if top(module) in names:
            return number
    raise LookupError(f"{PACKAGE}/{top(module)} has no layer: add it to LAYERS in taxi_assets_tests/imports.py")


def upward(graph: Mapping[str, Iterable[str]]) -> set[tuple[str, str]]:
    """Return the imports that do not lead to a lower layer, as pairs of modules. The package's `__init__` belongs to none."""
    return {
        (module, imported)
        for module, names in graph.items()
        for imported in names
        if module and imported and top(module) != top(imported) and row(imported) >= row(module)
    }


def private(names: Mapping[str, Iterable[str]]) -> set[tuple[str, str]]:
    """Return the imports of private modules and names of other packages, as pairs of module and dotted name."""
    return {
        (module, name)
        for module, imported in names.items()
        for name in imported
        if any(part.startswith("_") and not part.endswith("__") for part in name.split("."))
    }


def cycles(graph: Mapping[str, Iterable[str]]) -> set[tuple[str, ...]]:
    """Return the groups of modules that import each other, directly or through others, each in alphabetical order."""
    reachable = {module: _reachable(module, graph) for module in graph}
    return {
        tuple(sorted({module} | {other for other in reachable[module] if module in reachable.get(other, ())}))
        for module in graph
        if module in reachable[module]
    }


def _reachable(module: str, graph: Mapping[str, Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    pending = list(graph.get(module, ()))
    while pending:
        if (each := pending.pop()) not in seen:
            seen.add(each)
            pending += graph.get(each, ())
    return seen
