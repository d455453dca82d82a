"""What stays in memory when it is full: one policy per file, by name.

A policy sees tensors only and needs no model.
"""

from __future__ import annotations

from collections.abc import Mapping

from framefusion.core.errors import OptionError, UnknownNameError
from framefusion.core.options import options_of
from framefusion.inference.stream.policies.hermes import Hermes
from framefusion.inference.stream.policies.infinipot import InfiniPot
from framefusion.inference.stream.policies.none import Everything
from framefusion.inference.stream.policies.policy import Policy
from framefusion.inference.stream.policies.retrieve import Retrieve
from framefusion.inference.stream.policies.uniform import Uniform
from framefusion.inference.stream.policies.window import Window

POLICIES: dict[str, type[Policy]] = {
    "hermes": Hermes,
    "infinipot": InfiniPot,
    "none": Everything,
    "retrieve": Retrieve,
    "uniform": Uniform,
    "window": Window,
}


def policy_of(name: str, words: Mapping[str, str] | None = None) -> Policy:
    """The policy of that name. words: its options as on a command line; the others are as they are by default.

    Raises UnknownNameError, and OptionError for an option it does not have or a value it refuses.
    """
    if name not in POLICIES:
        raise UnknownNameError(f"there is no policy `{name}`", hint=f"choose one of {', '.join(sorted(POLICIES))}")
    given, known = words or {}, options_of(POLICIES[name])
    for key in given:
        if key not in known:
            has = f"it has: {', '.join(known)}" if known else "it has none; `infinipot` and `hermes` have some"
            raise OptionError(f"the policy `{name}` has no option `{key}`", hint=has)
    return POLICIES[name](**{key: known[key].read(word) for key, word in given.items()})
