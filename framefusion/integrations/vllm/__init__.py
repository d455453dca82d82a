"""The plugin through which vLLM's engine reads fewer visual tokens (entry point `vllm.general_plugins`).

vLLM loads it in every process it starts; without `visual_reduction` in the model's configuration nothing changes.
"""

from __future__ import annotations


def register() -> None:
    """Put the reducing classes in the place of vLLM's, and watch for configurations that cannot be served."""
    from vllm import ModelRegistry

    from framefusion.integrations.vllm.contract import guard_start
    from framefusion.integrations.vllm.families import FAMILIES

    for architecture, served in FAMILIES.items():
        ModelRegistry.register_model(architecture, served.model)
    guard_start(ModelRegistry)
