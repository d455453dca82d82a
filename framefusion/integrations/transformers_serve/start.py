"""Starting transformers' server with its own options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from framefusion.core.errors import MissingPackageError, OptionError
from framefusion.integrations.transformers_serve.hooks import hooked

if TYPE_CHECKING:
    from framefusion.core.method import Method


def start(model: str, place: str, method: Method, frames: int, more: Sequence[str]) -> None:
    """Serve until interrupted. more: options of `transformers serve`.

    model: as it was named, which is what clients may call it. place: where it lies.

    Raises MissingPackageError, OptionError for options the server does not have, and what loading the model raises.
    """
    from transformers.utils.import_utils import is_accelerate_available, is_serve_available

    if not (is_serve_available() and is_accelerate_available()):
        raise MissingPackageError(
            "the packages of transformers' server are not installed", hint="pip install 'framefusion[serving]'"
        )
    try:
        from transformers.cli.transformers import app
    except ModuleNotFoundError as error:  # 5.17 to 5.20 want `requests`, which transformers itself does not bring
        raise MissingPackageError(
            f"transformers' server needs the package `{error.name}`", hint="pip install 'framefusion[serving]'"
        ) from error

    with hooked(method, model, place, frames):
        try:
            app(["serve", place, *more], standalone_mode=False)
        except Exception as error:
            told = getattr(error, "format_message", None)
            if told is None:
                raise
            raise OptionError(str(told()), hint="`transformers serve --help` lists what it takes") from error
