"""The model classes lmms-eval asks for by name, each made when it is asked for: their bases import heavy packages."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from framefusion.integrations.lmms.reduced import Reduced
from framefusion.integrations.lmms_eval import WRAPPERS

_BASES = {
    wrapper.class_name(kind): (base, wrapper.reads)
    for wrapper in WRAPPERS
    for kind, base in (("chat", wrapper.chat), ("simple", wrapper.simple))
    if base is not None
}


def __getattr__(name: str) -> Any:
    if name not in _BASES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path, reads = _BASES[name]
    module, _, attribute = path.partition(":")
    base = getattr(import_module(module), attribute)
    own = {"__module__": __name__, "__doc__": f"{attribute}, reduced.", "reads": reads}
    made = type(name, (Reduced, base), own)
    globals()[name] = made
    return made
