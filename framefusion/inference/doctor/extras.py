"""What is optional, what it is for, and which of it is missing."""

from __future__ import annotations

from dataclasses import dataclass

from .versions import Requirement, requirements, version_of

FOR = {
    "app": "framefusion app, a page in the browser",
    "accelerate": "--device auto: a model spread over several devices",
    "lmms": "framefusion lmms-eval: benchmarks of the field",
    "parquet": "framefusion map --out answers.parquet; without it, answers.jsonl",
    "peft": "adapters",
    "plot": "figures of evaluate, analyze and study",
    "quantized": "--quantize: int8 and int4 weights and caches; widths that are simulated need nothing",
    "ray": "framefusion map --engine ray",
    "serving": "framefusion serve --engine transformers",
    "smolvlm": "SmolVLM, whose processor writes numbers out",
    "towers": "FastVLM, Gemma 3n, Perception LM and Inkling",
    "triton": "kernels for NVIDIA GPUs, where torch did not bring it",
    "vllm": "framefusion serve; in an environment of its own, since vLLM pins transformers",
}
"""Extras by name; those for people who change this package are left out."""


@dataclass(frozen=True)
class Extra:
    """missing: packages that are not there, or in a release that does not do."""

    name: str
    purpose: str
    missing: tuple[str, ...]
    install: str


def all_extras() -> list[Extra]:
    return [_extra(name, purpose) for name, purpose in FOR.items()]


def _extra(name: str, purpose: str) -> Extra:
    missing = tuple(sorted({_told(needed) for needed in requirements(name) if _lacks(needed)}))
    return Extra(name, purpose, missing, f"pip install 'framefusion[{name}]'")


def _lacks(needed: Requirement) -> bool:
    if needed.name == "framefusion":  # an extra that contains another one
        return False
    installed = version_of(needed.name)
    return installed is None or not needed.admits(installed)


def _told(needed: Requirement) -> str:
    return needed.name if version_of(needed.name) is None else f"{needed} (here: {version_of(needed.name)})"
