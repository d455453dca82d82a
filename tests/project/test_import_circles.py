"""No file of the package imports itself, however long the way, `TYPE_CHECKING` and imports in functions included."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.project.tree import ROOT, sources


def module_of(path: Path) -> str:
    """Dotted name of a file; a folder's `__init__` has the folder's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, package: str, modules: Iterable[str]) -> Iterator[str]:
    """Modules among `modules` that the code of a file in `package` names in an import, wherever the import stands."""
    known = set(modules)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in known:
                    yield inner
                elif base in known:
                    yield base


def arrows() -> dict[str, set[str]]:
    """Module -> modules of the package it imports, itself left out."""
    files = {module_of(path): path for path in sources()}
    found = {}
    for module, path in files.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found[module] = set(imported(ast.parse(path.read_text(encoding="utf-8")), package, files)) - {module}
    return found


def circles(graph: Mapping[str, Iterable[str]]) -> set[frozenset[str]]:
    """Largest sets of modules that all reach one another (Tarjan), those of one module left out."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        path.append(module)
        for other in graph[module]:
            if other not in index:
                visit(other)
            if other in path:
                low[module] = min(low[module], low[other])
        if low[module] == index[module]:
            start = path.index(module)
            circle = frozenset(path[start:])
            del path[start:]
            if len(circle) > 1:
                found.add(circle)

    for module in graph:
        if module not in index:
            visit(module)
    return found


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}
    assert circles(graph) == {frozenset("abc")}


def test_imports_count_wherever_they_stand() -> None:
    code = "if TYPE_CHECKING:\n    from p.a import X\ndef f():\n    from . import b\n    import p.c\n"
    assert set(imported(ast.parse(code), "p", ["p.a", "p.b", "p.c"])) == {"p.a", "p.b", "p.c"}


def test_the_package_has_no_circles() -> None:
    assert circles(arrows()) == set()
