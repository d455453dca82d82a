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

LOOK_UPS = ("inspect_model_cls", "resolve_model_cls")


def install(registry: Any) -> None:
    """Pass the look-ups of `registry` through the plugin, once; those it does not have are left alone."""
    for name in LOOK_UPS:
        look_up = getattr(registry, name, None)
        if callable(look_up) and not hasattr(look_up, "__wrapped__"):
            setattr(registry, name, _leading_to_ours(registry, look_up))


def _leading_to_ours(registry: Any, look_up: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(look_up)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = (*args, *kwargs.values())
        model_config = next((one for one in given if hasattr(one, "hf_config")), None)
        config = getattr(model_config, "hf_config", None)
        if getattr(config, KEY, None) is None:
            return look_up(*args, **kwargs)
        from framefusion.integrations.vllm.contract import check_configuration

        names = args[0] if args else kwargs.get("architectures")
        architecture = check_configuration(names, model_config)
        registry.register_model(REDUCED + architecture, FAMILIES[architecture].model)
        # vLLM finds the class of a model, and remembers it, by the architectures of its configuration.
        config.architectures = [REDUCED + architecture]
        found, _ = look_up(config.architectures, model_config)
        return found, architecture

    return checked
