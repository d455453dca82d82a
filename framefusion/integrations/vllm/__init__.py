"""The plugin through which vLLM's engine reads fewer visual tokens (entry point `vllm.general_plugins`).

vLLM loads it in every process it starts; without `visual_reduction` in the model's configuration nothing changes.
"""

from __future__ import annotations

import logging


def register() -> None:
    """Watch vLLM's model registry for configurations that ask for a reduction.

    Never raises: an exception here would stop engines that have nothing to do with this package.
    """
    try:
        from vllm import ModelRegistry

        from framefusion.integrations.vllm.registration import install

        install(ModelRegistry)
    except Exception as error:
        logging.getLogger(__name__).warning("framefusion cannot reduce in this vLLM: %s", error)
