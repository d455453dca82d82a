"""A package as its source says it is, read by syntax tree from a wheel or a folder; nothing is installed or run."""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from framefusion.core.errors import FrameFusionError

NOT_READ = "give a wheel of vLLM (`pip download --no-deps vllm==RELEASE`) or a folder with the package `vllm` in it"


@dataclass(frozen=True)
class Found:
    """A definition. module: where it stands. node: its syntax; None for one that another package defines."""

    module: str
    name: str
    node: ast.stmt | None


@dataclass(frozen=True)
class Release:
    """Sources of one package.

    package: its import name. title: what it calls itself, with its version. files: paths with forward slashes from
    where the package stands. read: the text of one of them.
    """

    package: str
    title: str
    files: frozenset[str]
    read: Callable[[str], bytes]

    @staticmethod
    def open(place: Path, package: str = "vllm") -> Release:
        """A wheel, or a folder that holds the package. Raises FrameFusionError."""
        if place.is_dir():
            paths = [*place.glob(f"{package}/**/*.py"), *place.glob(f"{package}*.dist-info/METADATA")]
            release = Release.of(
                [path.relative_to(place).as_posix() for path in paths],
                lambda path: (place / path).read_bytes(),
                package,
            )
        else:
            try:
                wheel = zipfile.ZipFile(place)
            except (OSError, zipfile.BadZipFile) as error:
                raise FrameFusionError(f"{place} is no wheel", str(error), NOT_READ) from None
            release = Release.of(wheel.namelist(), wheel.read, package)
        if f"{package}/__init__.py" not in release.files:
            raise FrameFusionError(f"{place} holds no package `{package}`", hint=NOT_READ)
        return release

    @staticmethod
    def of(files: Sequence[str], read: Callable[[str], bytes], package: str) -> Release:
        """The release whose files are these."""
        about = next((path for path in files if re.fullmatch(rf"{package}[^/]*\.dist-info/METADATA", path)), None)
        head = read(about).decode(errors="replace") if about else ""
        said = [re.search(rf"^{key}: (\S+)", head, re.M) for key in ("Name", "Version")]
        title = " ".join(match[1] for match in said if match) or f"{package} of unknown release"
        return Release(package, title, frozenset(files), cache(read))

    def tree(self, module: str) -> ast.Module | None:
        """A module's syntax, None where there is no such module or this Python cannot read it."""
        path = self._path(module)
        return _parsed(self.read(path)) if path else None

    def find(self, module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> Found | None:
        """The definition that `from module import name` gives, through re-exports."""
        tree = self.tree(module)
        if tree is None or (module, name) in seen:
            return None
        seen |= {(module, name)}
        found = None
        for node in _statements(tree.body):
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if alias.name == "*" or (alias.asname or alias.name) == name:
                        source = self._imported(module, node)
                        wanted = name if alias.name == "*" else alias.name
                        found = self._through(source, wanted, seen, star=alias.name == "*") or found
            elif name in _defines(node):
                found = Found(module, name, node)
        if found is None and self._path(f"{module}.{name}"):
            found = Found(f"{module}.{name}", "", None)
        return found

    def ancestry(self, found: Found | None) -> list[Found]:
        """A class and its bases, in the order in which attributes are looked up, as far as this package defines them.

        An instance at the top of a module stands for its class.
        """
        if found is None or found.node is None:
            return []
        if not isinstance(found.node, ast.ClassDef):
            value = _class_of(found.node)
            return self.ancestry(self.find(found.module, value)) if value else []
        order = [found]
        for base in found.node.bases:
            named = base.value if isinstance(base, ast.Subscript) else base
            if isinstance(named, ast.Name):
                order += self.ancestry(self.find(found.module, named.id))
        # A base that several share is looked up after all of them.
        return [one for place, one in enumerate(order) if one not in order[place + 1 :]]

    def member(self, found: Found | None, name: str) -> ast.AST | None:
        """An attribute of a class or of its instances: a method, a field, or what a method assigns to `self`."""
        family = [one.node for one in self.ancestry(found) if isinstance(one.node, ast.ClassDef)]
        for node in family:
            own = [statement for statement in _statements(node.body) if name in _defines(statement)]
            if own:
                return own[-1]
        return next((place for node in family for place in _assigned(node, name)), None)

    def homes(self, name: str) -> list[str]:
        """Modules that define a class, a function or a method of that name now."""
        sought = re.compile(rf"^\s*(?:class|def|async def) {re.escape(name)}\b", re.M)
        return sorted(
            path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            for path in self.files
            if path.startswith(f"{self.package}/") and path.endswith(".py")
            if sought.search(self.read(path).decode(errors="replace"))
        )

    def _path(self, module: str) -> str | None:
        base = module.replace(".", "/")
        return next((path for path in (f"{base}.py", f"{base}/__init__.py") if path in self.files), None)

    def _imported(self, module: str, node: ast.ImportFrom) -> str:
        """The full name of the module that an import statement in `module` names."""
        if not node.level:
            return node.module or ""
        path = self._path(module) or ""
        up = node.level - int(path.endswith("/__init__.py"))
        parts = module.split(".")[: len(module.split(".")) - up]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _through(self, module: str, name: str, seen: frozenset[tuple[str, str]], star: bool) -> Found | None:
        if module.split(".")[0] != self.package:
            return None if star else Found(module, name, None)
        return self.find(module, name, seen)


@cache
def _parsed(text: bytes) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Also those under `if` and `try`, as `TYPE_CHECKING` and optional packages need them."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody"):
            if isinstance(node, (ast.If, ast.Try)):
                yield from _statements(getattr(node, part, ()))


def _defines(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _class_of(node: ast.stmt) -> str:
    """The class of what an assignment makes: `x = Class(...)` or `x: Class`."""
    value = getattr(node, "value", None)
    named = value.func if isinstance(value, ast.Call) else getattr(node, "annotation", None)
    return named.id if isinstance(named, ast.Name) else ""


def _assigned(node: ast.ClassDef, name: str) -> Iterator[ast.AST]:
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and part.attr == name and isinstance(part.ctx, ast.Store):
            yield part
