"""Whether a release of vLLM has what the plugin relies on, and what moved where it has not."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from framefusion.core.errors import FrameFusionError
from framefusion.integrations.vllm.release import Found, Release
from framefusion.integrations.vllm.relied import Call, Relied, everything

USAGE = "usage: python -m framefusion.integrations.vllm.contract WHEEL-OR-FOLDER [...]"


@dataclass(frozen=True)
class Verdict:
    """One thing and what became of it: "" where it is as it was."""

    relied: Relied
    moved: str

    def __str__(self) -> str:
        return f"{self.relied.subject}: {self.relied.place} {self.moved}"


def judge(release: Release, things: Iterable[Relied] | None = None) -> list[Verdict]:
    """A verdict on each thing of the list."""
    return [Verdict(relied, _moved(release, relied)) for relied in (everything() if things is None else things)]


def _moved(release: Release, relied: Relied) -> str:
    module, _, path = relied.place.partition(":")
    tree = release.tree(module)
    if tree is None:
        return "is gone, or is written in a Python that this one cannot read"
    if not path:
        return _asked(tree, relied) or _unsaid(tree, relied) or _led(release, module, relied)
    name, _, attribute = path.partition(".")
    owner = release.find(module, name)
    if owner is None:
        return _gone(release, name)
    found: ast.AST | None = owner.node
    if attribute:
        found = release.member(owner, attribute)
        if found is None:
            return _gone(release, attribute)
    if relied.under and not _descends(release, owner, relied.under):
        return f"no longer descends from {relied.under}"
    return next((said for call in relied.calls if (said := _misfit(found, call, bool(attribute)))), "")


def _gone(release: Release, name: str) -> str:
    homes = release.homes(name)
    shown = ", ".join(homes[:3]) + (f" and {len(homes) - 3} more" if len(homes) > 3 else "")
    return f"is gone; {shown} defines `{name}`" if homes else "is gone; nothing defines that name"


def _descends(release: Release, owner: Found, under: str) -> bool:
    module, _, name = under.partition(":")
    base = release.find(module, name)
    return base is not None and base in release.ancestry(owner)


def _misfit(found: ast.AST | None, call: Call, method: bool) -> str:
    """What is wrong with calling a function like that."""
    if not isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return "is no function any more" if isinstance(found, ast.ClassDef) else ""
    given = found.args
    places = [argument.arg for argument in (*given.posonlyargs, *given.args)][int(method) :]
    required = places[: len(places) - len(given.defaults)]
    by_name = [argument.arg for argument in given.kwonlyargs]
    required_by_name = [name for name, default in zip(by_name, given.kw_defaults, strict=True) if default is None]
    now = f"takes ({', '.join([*places, *by_name])})"
    if call.same is not None:
        return "" if tuple(places) == call.same else f"{now}, not ({', '.join(call.same)})"
    if call.by_place > len(places) and not given.vararg:
        return f"{now}, not {call.by_place} arguments by position"
    unknown = [name for name in call.by_name if name not in (*places, *by_name)]
    if unknown and not given.kwarg:
        return f"{now}, no `{unknown[0]}`"
    missing = {*required[call.by_place :], *required_by_name} - {*call.by_name}
    return f"{now}; `{min(missing)}` was not needed before" if missing else ""


def _asked(tree: ast.Module, relied: Relied) -> str:
    """Whether a module still calls ours, by the keywords that ours takes."""
    for name, keywords in relied.asks:
        calls = [
            {keyword.arg for keyword in node.keywords}
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name
        ]
        if not calls:
            return f"no longer calls `{name}`"
        if keywords and any(given != {*keywords} for given in calls):
            return f"calls `{name}` with other keywords than {', '.join(keywords)}"
    return ""


def _unsaid(tree: ast.Module, relied: Relied) -> str:
    """Whether a module knows the fields of an item by the names that they have."""
    known = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    known |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg}
    lost = [name for name in relied.says if name not in known]
    return f"no longer has a field `{lost[0]}`" if lost else ""


def _led(release: Release, module: str, relied: Relied) -> str:
    """Whether the registry still leads an architecture to the class that ours stands in front of."""
    if not relied.leads:
        return ""
    architecture, _, stock = relied.leads.partition(" ")
    home, _, name = stock.partition(":")
    tree = release.tree(module)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == architecture and isinstance(value, ast.Tuple):
                    said = [part.value for part in value.elts if isinstance(part, ast.Constant)]
                    if said == [home.rpartition(".")[2], name] or said == [home, name]:
                        return ""
                    return f"leads {architecture} to {':'.join(map(str, said))}, not to {stock}"
    return f"no longer names {architecture}"


def report(release: Release, verdicts: Sequence[Verdict]) -> list[str]:
    """Lines: a count for each subject, and one for each thing that moved."""
    of, moved = Counter(one.relied.subject for one in verdicts), [one for one in verdicts if one.moved]
    held = of - Counter(one.relied.subject for one in moved)
    lines = [f"{release.title}: {len(verdicts) - len(moved)} of {len(verdicts)} hold"]
    lines += [f"  {subject:<40} {held[subject]:>3} of {of[subject]}" for subject in of]
    return lines + [f"moved: {one}" for one in moved]


def main(places: Sequence[str]) -> int:
    """0 where everything holds, 1 where something moved, 2 for what cannot be read."""
    if not places or any(place.startswith("-") for place in places):
        sys.stderr.write(f"{USAGE}\n")
        return 2
    code = 0
    for place in places:
        try:
            release = Release.open(Path(place))
        except FrameFusionError as error:
            sys.stderr.write(f"{error}\n")
            return 2
        verdicts = judge(release)
        sys.stdout.write("\n".join(report(release, verdicts)) + "\n")
        code = max(code, int(any(one.moved for one in verdicts)))
    return code
