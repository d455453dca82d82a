"""The plugin's place in vLLM's model registry: it acts where a configuration asks for a reduction, and nowhere else.

Other engines run in the same environment, on releases that were never tested. So no model of the registry is replaced:
its look-ups are passed through, and only a configuration with `visual_reduction` is led to a reducing class, which has
an architecture name of its own. vLLM remembers resolved classes by that name, so both kinds of engine can share a
process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from framefusion.integrations.vllm.families import FAMILIES, KEY, REDUCED

# A look-up that passed through already; vLLM's own may be wrapped as well, by a cache for example.
OURS = "_framefusion"


def install(registry: Any) -> None:
    """Pass the look-ups of `registry` through the plugin, once; those it does not have are left alone."""
    for name, leading in (("inspect_model_cls", _inspecting), ("resolve_model_cls", _resolving)):
        look_up = getattr(registry, name, None)
        if callable(look_up) and not getattr(look_up, OURS, False):
            led = wraps(look_up)(leading(registry, look_up))
            setattr(led, OURS, True)
            setattr(registry, name, led)


def _inspecting(registry: Any, look_up: Callable[..., Any]) -> Callable[..., Any]:
    """The first look-up of an engine, before anything is loaded."""

    def inspect(*args: Any, **kwargs: Any) -> Any:
        model_config = next((one for one in (*args, *kwargs.values()) if hasattr(one, "hf_config")), None)
        config: Any = getattr(model_config, "hf_config", None)
        if getattr(config, KEY, None) is None:
            return look_up(*args, **kwargs)
        from framefusion.integrations.vllm.contract import check_configuration

        architecture = check_configuration(_architectures(args, kwargs), model_config)
        if architecture is None:
            return look_up(*args, **kwargs)
        # vLLM finds the class of a model, and remembers it, by the architectures of its configuration.
        config.architectures = [REDUCED + architecture]
        _register(registry, architecture)
        found, _ = look_up(config.architectures, model_config)
        return found, architecture

    return inspect


def _resolving(registry: Any, look_up: Callable[..., Any]) -> Callable[..., Any]:
    """The class itself, also in a worker process, which was sent the configuration."""

    def resolve(*args: Any, **kwargs: Any) -> Any:
        for name in _architectures(args, kwargs):
            if name.removeprefix(REDUCED) in FAMILIES and name.startswith(REDUCED):
                _register(registry, name.removeprefix(REDUCED))
        return look_up(*args, **kwargs)

    return resolve


def _architectures(args: tuple, kwargs: dict[str, Any]) -> list[str]:
    given = args[0] if args else kwargs.get("architectures")
    return [given] if isinstance(given, str) else list(given or ())


def _register(registry: Any, architecture: str) -> None:
    registry.register_model(REDUCED + architecture, FAMILIES[architecture].model)
